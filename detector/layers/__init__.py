"""Building blocks of networks: convolution blocks, recurrent cells and the autograd function of an LSTM sequence.

Does not belong here: whole feature extractors and heads.
"""
