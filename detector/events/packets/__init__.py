"""Readers of recordings that consist of packets of different lengths, such as AEDAT4.

Does not belong here: files of equal records, see `prophesee`, and tables, see `containers`.
"""
