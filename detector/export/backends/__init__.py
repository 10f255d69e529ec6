"""What writes and loads each kind of exported file, and the layers and modules that these files hold.

Does not belong here: the table of all kinds, which is `export/forms.py`.
"""
