"""All benchmarks, one after another, each in its own process; one table and one file of JSON.

`python tests/benchmarks [NAME ...] [--small] [--rounds N] [--json FILE]`. A benchmark is a script in this folder that
takes `--small` and `--rounds` and whose last line is JSON with its `rows` (see rounds.py).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch
from rounds import Row, table

HERE = Path(__file__).parent
SHARED = {"__main__", "rounds"}
"""Files that are no benchmarks."""


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)


def run(name: str, options: list[str]) -> dict:
    """Run one, its output passing through; what its last line says, or the reason why it failed."""
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    print(f"== {name}", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        return {"benchmark": name, "rows": [], "error": f"exit code {process.returncode}"}
    found = json.loads(last)
    rows = [row for row in found.get("rows", []) if row.keys() == Row.__dataclass_fields__.keys()]
    return {**found, "rows": rows}


def machine() -> str:
    """Processor, cores and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {gpu}, {versions}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names())}; all if none is given")
    parser.add_argument("--small", action="store_true", help="tiny sizes and one round: do they run?")
    parser.add_argument("--rounds", type=int, help="rounds of each form; each benchmark's own number if not given")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args()
    unknown = set(args.names) - set(names())
    if unknown:
        parser.error(f"got {', '.join(sorted(unknown))}, allowed: {', '.join(names())}")
    options = ["--small"] * args.small + (["--rounds", str(args.rounds)] if args.rounds else [])
    found = [run(name, options) for name in args.names or names()]
    rows = [Row(**row) for result in found for row in result["rows"]]
    print(f"\n{machine()}\n\n{table(rows)}")
    failed = [result["benchmark"] for result in found if "error" in result]
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine(), "benchmarks": found}, indent=1))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
