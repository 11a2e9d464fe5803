"""What the tolerance of equal distances costs and gains, and how fast the neighbour search alone is.

Shrink of the bond table (ties as published) for several tolerances; the largest move of a feature of the
published ``mp_eform`` network against tolerance 0, and the mean size of a feature; structures per second of
pymatgen's compiled search at 8 Å with its pairs joined, and nothing after it. The measurement behind
docs/decisions/0002 and 0004.

    python benchmarks/tolerance.py
"""

from __future__ import annotations

import time
import warnings
from typing import Any

from common import load_task, missing, parser, published_module, report

from matmosaic import GraphSettings, GraphTable
from matmosaic.backbones import structure_features
from matmosaic.graphs.neighbors import _search
from matmosaic.structures import structure_arrays

TOLERANCES = (1e-6, 1e-5, 1e-4, 1e-3)


def seconds(arrays: list[Any]) -> float:
    """Return the best time of three searches of all structures."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        _search(arrays, 8.0)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("jarvis_2d_exfoliation", "piezoelectric_tensor", "mp_poisson_ratio"))
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    warnings.simplefilter("ignore")
    backbone = published_module(arguments.data).build_backbone()
    rows = []
    for task in arguments.tasks:
        structures, _ = load_task(arguments.data, task)
        arrays = [structure_arrays(one) for one in structures]
        row: dict[str, Any] = {"task": task, "search, structures/s": round(len(arrays) / seconds(arrays))}
        backbone.graph_settings = GraphSettings(ties="reference", tolerance=0.0)
        whole = GraphTable.from_structures(structures, backbone, compressed=False)
        exact = structure_features(backbone, whole)
        for tolerance in TOLERANCES:
            backbone.graph_settings = GraphSettings(ties="reference", tolerance=tolerance)
            table = GraphTable.from_structures(structures, backbone)
            row[f"shrink {tolerance:g}"] = whole.n_bonds / table.n_bonds
            row[f"move {tolerance:g}"] = float((structure_features(backbone, table) - exact).abs().max())
        rows.append({**row, "mean feature": float(exact.abs().mean())})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
