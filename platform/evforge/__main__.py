"""Run the `evforge` command with `python -m evforge VERB ...`."""

import sys

from evforge.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
