"""Convert recordings and their labels to a dataset folder of tensor files.

Does not belong here: reading the dataset for training.
"""
