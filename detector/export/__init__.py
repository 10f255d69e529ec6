"""Export of detectors to files of several kinds ("forms", such as TorchScript or ONNX): write, load and check them.

`jitting.py` and `jitting_test.py` re-export the public names. Does not belong here: running an exported file on
recordings (`inference/`).
"""
