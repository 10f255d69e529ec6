"""Checks of an exported detector: `python -m detector.jitting_test model.ptjit`.

The checks are implemented in `detector.export.cases`.
"""

import argparse

import torch

from detector.export.cases import (
    TESTCASES,
    testcase_forward_network_with_and_without_box_decoding_cpu,
    testcase_forward_network_with_and_without_box_decoding_gpu_if_available,
    testcase_torch_jit_reset,
)

__all__ = [
    "TESTCASES",
    "testcase_forward_network_with_and_without_box_decoding_cpu",
    "testcase_forward_network_with_and_without_box_decoding_gpu_if_available",
    "testcase_torch_jit_reset",
]


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m detector.jitting_test", description=__doc__)
    parser.add_argument("nn_filename", help="exported model.ptjit")
    parser.add_argument("--height", type=int, default=120, help="height of the test frames")
    parser.add_argument("--width", type=int, default=160, help="width of the test frames")
    args = parser.parse_args()
    failed = 0
    for name, testcase in TESTCASES.items():
        try:
            testcase(args.nn_filename, args.height, args.width)
            print(f"ok      {name}{'' if 'GPU' not in name or torch.cuda.is_available() else ': skipped, no GPU'}")
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {' '.join(str(error).split())}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(_main())
