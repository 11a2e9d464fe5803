"""What composing modules costs, and what its parts are worth.

    python benchmarks/composition.py                        # all parts
    python benchmarks/composition.py --parts proxy,solver
    OMP_NUM_THREADS=2 python benchmarks/composition.py --parts proxy --modules 18 --rows 8000 --features 64

Parts: ``proxy`` (seconds and peak memory of proxy predictions and weights), ``solver`` (the convex program
against an independent solver), ``choices`` (on embedded alloys and the bundled modules: errors with cosines
of features as they are, not standardised, and with statistics of batch normalisation that are the means of
the modules' own, or those of the training structures alone). ``proxy`` runs in a process of its own, so that
its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from common import circumstances, parser, print_table, report
from scipy.optimize import minimize

from matmosaic import ComposedRegressor
from matmosaic.datasets import load_alloys
from matmosaic.learning.composition import convex_weights, rmse
from matmosaic.learning.merging import reestimate_statistics
from matmosaic.learning.proxy import knn_proxy

Row = dict[str, Any]

SECONDS_TO_REACH, MEGABYTES_TO_REACH, OBJECTIVE_TO_REACH = 10.0, 1000.0, 1e-6
TARGETS = {"shear_modulus": "GPa", "vacancy_energy": "eV"}
TEST_ROWS = 100


def made_up(n_modules: int, n_rows: int, n_features: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return features of modules, each of few directions with noise, and labels that depend on some."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_rows, 12))
    y = np.sin(hidden[:, :4]).sum(axis=1) + 0.3 * rng.normal(size=n_rows)
    features = []
    for number in range(n_modules):
        maps = rng.normal(size=(12, n_features)) * (rng.random((12, 1)) < 0.5)
        noise = 0.05 * (number + 1) * rng.normal(size=(n_rows, n_features))
        features.append(np.log1p(np.exp(hidden @ maps + noise)).astype(np.float32))
    return features, y


def predictions(features: list[np.ndarray], y: np.ndarray) -> np.ndarray:
    return np.array([knn_proxy(one, y) for one in features])


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far, in 10^6 bytes; NaN on Windows."""
    if platform.system() == "Windows":
        return float("nan")
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measured_proxy(arguments: argparse.Namespace) -> list[Row]:
    """Time proxies and weights, and read the memory they need beside the features."""
    import cvxpy  # noqa: F401  Its import is no part of the time.

    features, y = made_up(arguments.modules, arguments.rows, arguments.features)
    before = peak_megabytes()
    start, busy = time.perf_counter(), time.process_time()
    weights = convex_weights(predictions(features, y), y)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return [
        {
            "part": "proxy",
            "what": f"{arguments.modules} modules, {arguments.rows} rows x {arguments.features} features",
            "seconds": round(seconds, 2),
            "seconds_to_reach": SECONDS_TO_REACH,
            "processor_seconds": round(busy, 2),
            "peak_megabytes": round(peak_megabytes()),
            "megabytes_to_reach": MEGABYTES_TO_REACH,
            "megabytes_more": round(peak_megabytes() - before),
            "modules_with_weight": int(np.count_nonzero(weights)),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        }
    ]


def proxy(arguments: argparse.Namespace) -> list[Row]:
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("modules", "rows", "features")]
    command = [sys.executable, __file__, "--parts", "measured_proxy", "--json", *sizes]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]


def independent(predicted: np.ndarray, y: np.ndarray) -> float:
    """Return the smallest squared error of a convex combination, by sequential least squares on all rows."""
    n_modules = len(predicted)
    solution = minimize(
        lambda w: np.mean((w @ predicted - y) ** 2),
        np.full(n_modules, 1 / n_modules),
        jac=lambda w: 2 * predicted @ (w @ predicted - y) / len(y),
        bounds=[(0, 1)] * n_modules,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return float(solution.fun)


def solver(arguments: argparse.Namespace) -> list[Row]:
    """Compare the program on products of residuals with one on all rows, and with one on the first 800."""
    features, y = made_up(arguments.modules, min(arguments.rows, 4000), arguments.features)
    predicted = predictions(features, y)
    convex_weights(predicted[:2], y)  # Imports the solver.
    rows = []
    for n_used in (len(y), 800):
        start = time.perf_counter()
        weights = convex_weights(predicted[:, :n_used], y[:n_used])
        seconds = time.perf_counter() - start
        found = rmse(weights @ predicted[:, :n_used], y[:n_used]) ** 2
        other = independent(predicted[:, :n_used], y[:n_used])
        rows.append(
            {
                "part": "solver",
                "what": f"{arguments.modules} modules, {n_used} rows",
                "seconds": round(seconds, 4),
                "error": found,
                "error_on_all_rows": rmse(weights @ predicted, y) ** 2,
                "relative_difference": abs(found - other) / other,
                "difference_to_reach": OBJECTIVE_TO_REACH,
            }
        )
    return rows


def plain_cosines() -> Any:
    plain = partial(knn_proxy, standardize=False)
    return patch("matmosaic.estimators._weighting.knn_proxy", plain)


def old_statistics() -> Any:
    return patch("matmosaic.estimators._composing.reestimate_statistics", lambda *given, **options: False)


def new_statistics() -> Any:
    new = partial(reestimate_statistics, prior=0)
    return patch("matmosaic.estimators._composing.reestimate_statistics", new)


CHANGES = {
    "as it is": nullcontext,
    "plain cosines": plain_cosines,
    "old statistics": old_statistics,
    "new statistics": new_statistics,
}


def choices(arguments: argparse.Namespace) -> list[Row]:
    """Score compositions of the bundled modules that differ in one choice, on the same rows and seeds."""
    rows = []
    for target, unit in TARGETS.items():
        for n_train in (10, 30, 100):
            for what, change in CHANGES.items():
                with change():
                    errors, proxies = scores(target, n_train, arguments)
                rows.append(
                    {
                        "part": "choices",
                        "what": f"{target} ({unit}), {n_train} labels: {what}",
                        "test_mae": round(float(np.mean(errors)), 4),
                        "spread": round(float(np.std(errors)), 4),
                        "proxy_error": round(float(np.mean(proxies)), 4),
                    }
                )
    return rows


def scores(target: str, n_train: int, arguments: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Return the test errors and the proxy errors of compositions, one for each seed."""
    X, y = load_alloys(target=target, return_X_y=True)
    errors, proxies = [], []
    for seed in range(arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[TEST_ROWS : TEST_ROWS + n_train], order[:TEST_ROWS]
        model = ComposedRegressor(
            "bundled:emt-*", max_epochs=arguments.epochs, random_state=seed, device="cpu"
        )
        model.fit([X[row] for row in train], y[train])
        errors.append(float(np.abs(model.predict([X[row] for row in test]) - y[test]).mean()))
        proxies.append(model.proxy_error_)
    return errors, proxies


PARTS = {"proxy": proxy, "solver": solver, "choices": choices}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    options.add_argument("--modules", type=int, default=18)
    options.add_argument("--rows", type=int, default=8000)
    options.add_argument("--features", type=int, default=64)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=100)
    arguments = options.parse_args()
    parts = {**PARTS, "measured_proxy": measured_proxy}
    measured = [parts[part](arguments) for part in arguments.parts]
    if arguments.json:
        report([row for rows in measured for row in rows], as_json=True)
        return
    for rows in measured:
        print_table(rows, circumstances())


if __name__ == "__main__":
    main()
