"""Rate of graph building, in structures per second, in one process.

Nothing is cached: every run builds all graphs of the task (positions to compressed graph) anew. The
ratio is to ``Structure.get_all_neighbors`` with sorting in Python, as the published CGCNN code
builds its graphs, timed in the same run on the first ``--reference-rows`` structures.

    python benchmarks/graphs.py --tasks jarvis_2d_exfoliation,piezoelectric_tensor
    python benchmarks/graphs.py --angles --tasks mp_phonons,piezoelectric_tensor,jarvis_2d_exfoliation

With ``--angles``, graphs as ALIGNN needs them, and how much compression shrinks them: bonds and angles
of all structures over those kept, and kB a structure in a table.
"""

from __future__ import annotations

import time
from typing import Any

from common import load_task, missing, parser, report

from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.graphs.build import build_uncached
from matmosaic.structures import structure_arrays


def rate(structures: list[Any], settings: GraphSettings, compressed: bool, repeats: int) -> float:
    """Return the best rate of some repeats, structures to graphs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        build_uncached([structure_arrays(one) for one in structures], settings, compressed=compressed)
        best = min(best, time.perf_counter() - start)
    return len(structures) / best


def reference_rate(structures: list[Any]) -> float:
    """Return the rate of neighbours as Python objects, sorted in Python."""
    start = time.perf_counter()
    for structure in structures:
        for neighbors in structure.get_all_neighbors(8.0, include_index=True):
            sorted(neighbors, key=lambda one: one[1])[:12]
    return len(structures) / (time.perf_counter() - start)


def sizes(structures: list[Any], settings: GraphSettings) -> dict[str, float]:
    """Return what compression makes of bonds and angles, and the memory of a structure in a table."""
    few, all_ = (GraphTable.from_structures(structures, settings, compressed=some) for some in (True, False))
    every = [all_.select([row]) for row in range(len(all_))]
    n_angles = sum(graph.angle_index.shape[1] for graph in every)
    return {
        "bonds shrink": round(all_.n_bonds / few.n_bonds, 1),
        "angles shrink": round(n_angles / len(few.fields["cosine"]), 1),
        "kB": round(few.nbytes / len(few) / 1000, 1),
        "kB uncompressed": round(all_.nbytes / len(all_) / 1000, 1),
    }


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("jarvis_2d_exfoliation", "piezoelectric_tensor"))
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--reference-rows", type=int, default=150)
    options.add_argument("--angles", action="store_true")
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    rows = []
    for task in arguments.tasks:
        structures, _ = load_task(arguments.data, task)
        python = reference_rate(structures[: arguments.reference_rows])
        for ties in ("whole" if arguments.angles else "fractional", "reference"):
            settings = GraphSettings(ties=ties, angles=arguments.angles)
            shrink = sizes(structures, settings) if arguments.angles else {}
            for compressed in (True, False):
                found = rate(structures, settings, compressed, arguments.repeats)
                row = {"task": task, "ties": ties, "compressed": compressed}
                rows.append(
                    {**row, "structures/s": round(found), "ratio": round(found / python, 1), **shrink}
                )
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
