"""Mean test error of regressors on frozen features, on the tasks of the mixture-of-experts paper.

Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x, published splits of
70/15/15 rows for five seeds::

    python benchmarks/probe_tables.py
    python benchmarks/probe_tables.py --methods predictions,derived --hub hubs/chgnet

Methods: ``constant`` (training median); ``chgnet`` and ``matminer`` (features of the published force field,
and the descriptors ``matminer-fast``, each alone); ``both`` (side by side); ``predictions`` (with what the
heads of the 18 published CGCNN extractors predict, and those of a hub of ``make_hub.py`` if one is named);
``derived`` (with Poisson's ratio as a formula of two of these, too). ``METHOD-ESTIMATOR`` is the same with
another regressor, such as ``both-svr`` (support vectors, all sources alike).

Fitted on training and validation rows, 85 %, as nothing is stopped early: all choices are made in ``fit``. A
module of a hub whose source has the labels of a task, or labels of the same calculations, takes no part in
it (``make_hub.Source.same``). Of the extractors, ``mp_gvrh`` and ``mp_kvrh`` were trained on moduli from
which the labels of ``mp_poisson_ratio`` follow, probably of the same crystals: there, ``both`` is the fair
figure.

Results are kept in ``--results``; a run that was stopped continues. Delete that file after a change of the
code.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import cache, partial
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
    published_module,
    published_modules,
)
from hub_tables import allowed
from moe_tables import PUBLISHED

METHODS = ("constant", "both-svr", "chgnet", "matminer", "both", "predictions", "derived")
KEY = ("task", "method", "seed", "hub")
# Extractors predict logarithms of moduli in GPa.
POISSON = "(3*10**K - 2*10**G) / (6*10**K + 2*10**G)"
BASE, DESCRIPTORS = "chgnet:0.3.0", "featurizer:matminer-fast"


@cache
def descriptors() -> Any:
    """Return the featurizer, one for all runs, so that it computes each structure once."""
    from matmosaic.featurizers import load_featurizer

    return load_featurizer(DESCRIPTORS)


@cache
def frozen_base() -> Any:
    """Return the features of the base without a prediction."""
    from matmosaic.featurizers import ModuleFeaturizer

    return ModuleFeaturizer(BASE)


@cache
def extractors(data: Path) -> tuple[Any, ...]:
    """Return the published extractors."""
    return tuple(published_modules(data))


@cache
def poisson(data: Path) -> Any:
    """Return Poisson's ratio as a formula of moduli that extractors predict."""
    from matmosaic import DerivedFeature

    moduli = {"K": published_module(data, "mp_kvrh"), "G": published_module(data, "mp_gvrh")}
    return DerivedFeature(POISSON, unit="dimensionless", name="Poisson ratio", **moduli)


def estimator(method: str, task: str, arguments: argparse.Namespace, seed: int) -> Any:
    """Return the estimator of a method."""
    from matmosaic import ProbeRegressor

    kind, _, regressor = method.partition("-")
    options = {"estimator": regressor or None, "random_state": seed, "device": arguments.device}
    plain = {"chgnet": [BASE], "matminer": [descriptors()], "both": [BASE, descriptors()]}
    if kind in plain:
        return ProbeRegressor(plain[kind], **options)
    modules = [*extractors(arguments.data), *(allowed(arguments.hub, task) if arguments.hub else ())]
    derived = [poisson(arguments.data)] if kind == "derived" else []
    sources = [frozen_base(), descriptors(), *modules]
    return ProbeRegressor(sources, features=False, derived=derived, **options)


def fit(arguments: argparse.Namespace, task: str, method: str, seed: int) -> dict[str, Any]:
    """Return the test error of a method on one of the published splits of a task."""
    structures, y = load_task(arguments.data, task)
    split = load_splits(arguments.data, task)[seed]
    train, test = np.array(split["train"] + split["val"]), np.array(split["test"])
    if method == "constant":
        return {"mae": float(np.abs(np.median(y[train]) - y[test]).mean()), "fit_seconds": 0.0}
    model = estimator(method, task, arguments, seed)
    start = time.perf_counter()
    model.fit([structures[row] for row in train], y[train])
    seconds = time.perf_counter() - start
    predicted = model.predict([structures[row] for row in test])
    return {
        "mae": float(np.abs(predicted - y[test]).mean()),
        "fit_seconds": round(seconds, 1),
        "chosen": {name: str(value) for name, value in model.best_params_.items()},
        "importances": model.explain()["importance"].round(5).to_dict(),
    }


def collect(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is not yet in the results file and return all that was asked for."""
    finished = FinishedRuns(arguments.results, KEY)
    rows = []
    for task, method, seed in itertools.product(arguments.tasks, arguments.methods, range(arguments.seeds)):
        hub = arguments.hub.name if arguments.hub else None
        key = {"task": task, "method": method, "seed": seed, "hub": hub}
        rows.append(finished.once(key, partial(fit, arguments, task, method, seed)))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per task and method: mean and spread of the seeds."""
    lines = []
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        some = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        errors = np.array([row["mae"] for row in some])
        line = {"task": task, "method": method, "MAE": f"{errors.mean():.4g} ± {errors.std():.2g}"}
        line["per seed"] = ", ".join(f"{error:.4g}" for error in errors)
        line["published mixture"] = PUBLISHED[task]["moe"]
        # The first fit computes the features.
        lines.append(line | {"s per fit": f"{np.median([row['fit_seconds'] for row in some]):.0f}"})
    return lines


def main() -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--hub", type=Path, help="folder that make_hub.py wrote")
    options.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--device", default="auto")
    options.add_argument("--results", type=Path, default=Path("probe_results.jsonl"))
    arguments = options.parse_args()
    if missing(arguments.data):
        return 0
    print_table(summary(collect(arguments)), circumstances())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
