"""What the benchmarks share: tasks, published modules, and the words around figures."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data"
TASKS = (
    "expt_eform",
    "jarvis_2d_exfoliation",
    "piezoelectric_tensor",
    "mp_phonons",
    "mp_poisson_ratio",
    "mp_eps_total",
    "jarvis_2d_gap_opt",
    "mp_poly_electronic",
)


def parser(description: str | None, *, tasks: tuple[str, ...] = TASKS) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--tasks", type=lambda text: text.split(","), default=list(tasks))
    made.add_argument(
        "--data", type=Path, default=DATA, help="folder with moe/TASK.json.gz and moe/splits.json"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    return made


def missing(data: Path, file: str = "moe/splits.json") -> bool:
    """Say that the data are absent, if they are."""
    absent = not (data / file).exists()
    if absent:
        print(f"skipped: there is no {data / file}; name the folder with --data", file=sys.stderr)
    return absent


@cache
def load_task(data: Path, task: str) -> tuple[list[Any], np.ndarray]:
    """Return the structures and labels of a task, which must not be changed."""
    from matmosaic import read_structures

    structures, frame = read_structures(data / "moe" / f"{task}.json.gz", target=task)
    return structures, frame[task].to_numpy(dtype=float)


def load_splits(data: Path, task: str) -> list[dict[str, list[int]]]:
    """Return the published splits of a task: rows of train, val and test for five seeds."""
    return json.loads((data / "moe" / "splits.json").read_text())[task]


def published_module(data: Path, name: str = "mp_eform") -> Any:
    """Return a published CGCNN extractor as a module."""
    from matmosaic.modules.importers import import_cgcnn

    return import_cgcnn(data / "moe" / "extractors" / f"{name}.pth.tar")


def published_modules(data: Path) -> list[Any]:
    """Return all published CGCNN extractors as modules, in the order of their names."""
    paths = sorted((data / "moe" / "extractors").glob("*.pth.tar"))
    return [published_module(data, path.name.removesuffix(".pth.tar")) for path in paths]


class FinishedRuns:
    """Results of runs in a file of JSON lines, so that what was stopped continues where it was.

    Parameters
    ----------
    path : Path
        The file, which need not exist.
    names : tuple of str
        What a run is known by: each line has a value of each.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path = path
        self.names = names
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        # Lines of other settings may lack a name that was added since.
        self.known = {self._key(row): row for row in rows if row.keys() >= set(names)}

    def once(self, key: dict[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of a run, which is made and written to the file if it is not there."""
        known = self._key(key)
        if known not in self.known:
            self.known[known] = {**key, **run()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.known[known]) + "\n")
            print(self.known[known], file=sys.stderr, flush=True)
        return self.known[known]

    def _key(self, row: dict[str, Any]) -> str:
        return json.dumps([row[name] for name in self.names])


def circumstances() -> dict[str, Any]:
    """Return when, how and on what the figures were measured."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def report(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a Markdown table with the circumstances below it, or as one JSON document."""
    if as_json:
        print(json.dumps({**circumstances(), "rows": rows}))
    else:
        print_table(rows, circumstances())


def print_table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Print rows as a Markdown table with some facts below it."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_shown(row[name]) for name in names) + " |")
    print("\n" + ", ".join(f"{name}: {value}" for name, value in facts.items()))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
