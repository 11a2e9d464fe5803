"""Time of ``matmosaic plugins`` with many plugins installed, as a whole process, and what it imports.

python benchmarks/plugins.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GROUPS = ("backbones", "featurizers", "stores")
# Whoever imports one of the fake plugins leaves a file: a plugin that is only listed leaves none.
MODULE = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()

class Plugin:
    contract = 1
"""


def install(folder: Path, number: int) -> None:
    """Write the metadata and the module of a distribution with one plugin, as an installer would."""
    name = f"fake_plugin_{number}"
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    points = f"[matmosaic.{GROUPS[number % 3]}]\nfake-{number} = {name}:Plugin\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (folder / f"{name}.py").write_text(MODULE, encoding="utf-8")


def run(folder: Path, *options: str) -> tuple[float, str]:
    """Return the wall time of ``matmosaic plugins`` in a fresh process, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-m", "matmosaic", "plugins", "--json", *options],
        env=environment,
        capture_output=True,
        check=False,  # with --check, another plugin of this environment may be broken
        text=True,
    )
    return time.perf_counter() - start, found.stdout


def names(output: str) -> set[str]:
    """Return the names of the fake plugins in a listing that do not say they are broken."""
    listed = json.loads(output)["plugins"]
    return {one["name"] for one in listed if one["healthy"] is not False and one["name"][:5] == "fake-"}


def imported(folder: Path) -> int:
    """Return how many of the fake plugins were imported."""
    return len(list(folder.glob("*.imported")))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugins", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--repeats", type=int, default=7, help="of the timed command (default: 7)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.plugins):
            install(folder, number)
        runs = [run(folder) for _ in range(arguments.repeats)]
        times = sorted(seconds for seconds, _ in runs)
        assert all(len(names(output)) == arguments.plugins for _, output in runs)
        print(
            f"{arguments.plugins} plugins, matmosaic plugins: median {statistics.median(times):.3f} s, "
            f"slowest {times[-1]:.3f} s, {imported(folder)} imported"
        )
        assert imported(folder) == 0
        seconds, output = run(folder, "--check")
        print(f"with --check: {seconds:.3f} s, {imported(folder)} imported")
        assert len(names(output)) == imported(folder) == arguments.plugins


if __name__ == "__main__":
    main()
