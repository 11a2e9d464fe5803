"""Time of ``import matmosaic`` and of ``matmosaic --help``, as whole processes, less Python's own start.

python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python start": ["-c", "pass"],
    "import matmosaic": ["-c", "import matmosaic, sys; assert 'torch' not in sys.modules"],
    "matmosaic --help": ["-m", "matmosaic", "--help"],
    "matmosaic plugins": ["-m", "matmosaic", "plugins"],
}


def seconds(arguments: list[str], repeats: int = 7) -> float:
    """Return the median wall time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Run from the command line."""
    for name, arguments in COMMANDS.items():
        print(f"{name:20s} {seconds(arguments):.3f} s")


if __name__ == "__main__":
    main()
