"""What the benchmarks share: tasks, published modules, and the words around figures."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
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


def missing(data: Path) -> bool:
    """Say that the data are absent, if they are."""
    absent = not (data / "moe" / "splits.json").exists()
    if absent:
        print(
            f"skipped: there is no {data / 'moe' / 'splits.json'}; name the folder with --data",
            file=sys.stderr,
        )
    return absent


def load_task(data: Path, task: str) -> tuple[list[Any], np.ndarray]:
    """Return the structures and labels of a task."""
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
        return
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_shown(row[name]) for name in names) + " |")
    print("\n" + ", ".join(f"{name}: {value}" for name, value in circumstances().items()))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
