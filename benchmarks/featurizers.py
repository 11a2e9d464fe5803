"""Seconds that the presets of matminer's descriptors take for 1,000 structures, cold and cached.

Cold is in a process that has imported what it needs, but described none of the structures; nothing is kept on
disk. "CPU s" is the time of the processor for this process alone, which other work hardly changes; with
several processes it says little. With ``--task`` the structures are those of a published task, otherwise the
embedded alloys; where these are fewer than ``--rows``, they are taken again, strained by 1e-3 more each time.

    python benchmarks/featurizers.py
    python benchmarks/featurizers.py --task mp_phonons --presets composition,fast,full --jobs 1,2
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

from common import load_task, missing, parser, report

from matmosaic.exceptions import UndefinedFeaturesWarning


def crystals(task: str | None, data: Any, rows: int) -> list[Any]:
    """Return as many structures as asked for, no two alike."""
    from matmosaic.datasets import load_alloys

    known = load_task(data, task)[0] if task else load_alloys(target="shear_modulus", return_X_y=True)[0]
    return [strained(known[row % len(known)], row // len(known)) for row in range(rows)]


def strained(structure: Any, times: int) -> Any:
    """Return the structure, or a copy of another volume."""
    return structure.copy().apply_strain(times * 1e-3) if times else structure


def seconds(featurizer: Any, structures: list[Any]) -> tuple[float, float]:
    """Return how long a transform takes: on the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    featurizer.transform(structures)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(preset: str, n_jobs: int, structures: list[Any], warm_up: list[Any]) -> dict[str, Any]:
    """Return one row of the table."""
    from matmosaic_matminer import MatminerFeaturizer

    from matmosaic.featurizers.cache import PROCESS_CACHE

    featurizer = MatminerFeaturizer(preset, n_jobs=n_jobs)
    featurizer.transform(warm_up)
    PROCESS_CACHE.clear()
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    cold, processor = seconds(featurizer, structures)
    cached, _ = seconds(featurizer, structures)
    return {
        "preset": preset,
        "features": len(featurizer.get_feature_names_out()),
        "processes": n_jobs,
        "rows": len(structures),
        "cold s": round(cold, 1),
        "CPU s": round(processor, 1),
        "cached s": round(cached, 2),
        "load before": load,
    }


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--task", help="one of the published tasks; by default the embedded alloys")
    options.add_argument("--presets", type=lambda text: text.split(","), default=["composition", "fast"])
    options.add_argument("--jobs", type=lambda text: [int(one) for one in text.split(",")], default=[1])
    options.add_argument("--rows", type=int, default=1000)
    arguments = options.parse_args()
    if arguments.task and missing(arguments.data):
        return
    warnings.simplefilter("ignore", UndefinedFeaturesWarning)
    structures = crystals(arguments.task, arguments.data, arguments.rows)
    warm_up = crystals(None, arguments.data, 2)
    rows = [
        measure(preset, n_jobs, structures, warm_up)
        for preset in arguments.presets
        for n_jobs in arguments.jobs
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
