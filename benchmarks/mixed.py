"""Do hand-crafted features and CHGNet help a mixture of CGCNN experts? Paired over the published splits.

Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x: eight tasks, 70/15/15
splits for five seeds, 18 CGCNN extractors, all published with the paper's code. To these are added the CHGNet
force field and descriptors of matminer (``pip install matmosaic-chgnet matmosaic-matminer``).

    python benchmarks/mixed.py --unfrozen head
    python benchmarks/mixed.py --unfrozen head --mixtures cgcnn,cgcnn+chgnet,cgcnn+matminer,all
    python benchmarks/mixed.py --n-active 4 --tasks jarvis_2d_exfoliation,mp_phonons

Mixtures: ``cgcnn`` (the 18), ``cgcnn+chgnet``, ``cgcnn+matminer``, ``all`` (20 experts), ``others`` (CHGNet
and matminer alone). ``--unfrozen head`` trains nothing of the networks, so that an epoch costs next to
nothing; the default trains the last layer of each, as the paper does, and that of CHGNet costs most of it.

Each row compares with ``cgcnn`` on the same split: how many splits are better, and the mean difference with
the standard error of the mean. Results are kept in ``--results``; a run that was stopped continues where it
was. Delete that file after a change of the code.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    FinishedRuns,
    circumstances,
    load_splits,
    load_task,
    missing,
    parser,
    print_table,
    published_modules,
)
from moe_tables import PUBLISHED, run

OTHERS = {"chgnet": "chgnet:0.3.0", "matminer": "featurizer:matminer-fast"}
MIXTURES = {
    "cgcnn": ["cgcnn"],
    "cgcnn+chgnet": ["cgcnn", "chgnet"],
    "cgcnn+matminer": ["cgcnn", "matminer"],
    "all": ["cgcnn", "chgnet", "matminer"],
    "others": ["chgnet", "matminer"],
}
SETTINGS = ("unfrozen", "n_active", "aggregation", "epochs", "batch_size")
KEY = ("task", "mixture", "seed", *SETTINGS)


def experts(mixture: str, data: Path) -> list[Any]:
    """Return the modules and featurizers of a mixture."""
    parts = MIXTURES[mixture]
    cgcnn = published_modules(data) if "cgcnn" in parts else []
    return [*cgcnn, *(OTHERS[part] for part in parts if part in OTHERS)]


def fit(arguments: argparse.Namespace, task: str, mixture: str, seed: int) -> dict[str, Any]:
    """Return the test error of a mixture on one of the published splits of a task."""
    from matmosaic import MoERegressor

    structures, y = load_task(arguments.data, task)
    model = MoERegressor(
        experts(mixture, arguments.data),
        unfrozen=arguments.unfrozen,
        n_active=arguments.n_active,
        aggregation=arguments.aggregation,
        max_epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        random_state=seed,
        device=arguments.device,
    )
    return run(mixture, structures, y, load_splits(arguments.data, task)[seed], model)


def collect(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is not yet in the results file and return all that was asked for."""
    finished = FinishedRuns(Path(arguments.results), KEY)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    rows = []
    for task, seed, mixture in itertools.product(arguments.tasks, range(arguments.seeds), arguments.mixtures):
        key = {"task": task, "mixture": mixture, "seed": seed, **settings}
        rows.append(finished.once(key, partial(fit, arguments, task, mixture, seed)))
    return rows


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each task and mixture: errors, and differences from CGCNN alone on the same splits."""
    errors: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        errors.setdefault((row["task"], row["mixture"]), []).append(row["mae"])
    return [
        {
            "task": task,
            "mixture": mixture,
            "MAE, mean of splits": f"{np.mean(some):.4g} ± {np.std(some):.2g}",
            **_against(np.array(some), np.array(errors.get((task, "cgcnn"), some))),
            "paper": PUBLISHED[task]["moe"],
            "gate": _gate(rows, task, mixture),
        }
        for (task, mixture), some in errors.items()
    ]


def _against(some: np.ndarray, cgcnn: np.ndarray) -> dict[str, Any]:
    difference = some - cgcnn
    error = difference.std(ddof=1) / np.sqrt(len(some)) if len(some) > 1 else np.nan
    return {
        "better splits": f"{(difference < 0).sum()} of {len(some)}",
        "difference": f"{difference.mean():+.2g} ± {error:.1g} ({difference.mean() / cgcnn.mean():+.1%})",
    }


def _gate(rows: list[dict[str, Any]], task: str, mixture: str) -> str:
    """Return the mean gate scores of the experts that are no CGCNN."""
    scores = [row["gate_scores"] for row in rows if (row["task"], row["mixture"]) == (task, mixture)]
    names = [one.partition(":")[2] for one in OTHERS.values()]
    shown = {name: np.mean([one[name] for one in scores]) for name in names if name in scores[0]}
    return ", ".join(f"{name} {score:.2f}" for name, score in shown.items())


def main() -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--mixtures", type=lambda text: text.split(","), default=["cgcnn", "all"])
    options.add_argument(
        "--seeds", type=int, default=5, help="number of the published splits, from the first"
    )
    options.add_argument("--unfrozen", default="last")
    options.add_argument("--n-active", type=int, default=None)
    options.add_argument("--aggregation", default="add")
    options.add_argument("--epochs", type=int, default=100)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--device", default="auto")
    options.add_argument(
        "--results", default="mixed_results.jsonl", help="file of finished runs, appended to"
    )
    arguments = options.parse_args()
    if missing(arguments.data):
        return 0
    rows = compared(collect(arguments))
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    print_table(rows, {**circumstances(), **settings})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
