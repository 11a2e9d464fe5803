"""Mean test error with a hub of modules from one base, on the tasks of the mixture-of-experts paper.

Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x, published splits of
70/15/15 rows for five seeds. ``python benchmarks/make_hub.py`` makes the hub::

    python benchmarks/hub_tables.py --hub hubs/chgnet
    python benchmarks/hub_tables.py --hub hubs/chgnet --methods transfer,composed --labels 100,10

Methods: ``constant`` (training median); ``svr`` (frozen features of the base, standardised, and a support
vector regressor, C = 10, fitted on training and validation rows, as it needs none to stop); ``transfer``
(from the base); ``transfer-NAME`` (from a module of the hub); ``composed``; ``composed-WEIGHTING`` for the
paper's ablations (``selected-average``, ``all-average``, ``random``) or ``composed-features``; ``moe`` and
``moe-kN`` (a mixture of all modules, or of N that the proxy chooses), ``moe-concat`` (features side by side).

A module whose source has the labels of a task, or labels of the same calculations, takes no part in it
(``make_hub.Source.same``). Crystals of the tests do occur among the sources, with other properties.

``--refit`` trains on training and validation rows and tests the last epoch, as ``svr`` does; without it, the
validation rows choose the epoch that is tested.

``--labels N`` keeps the first N training rows; without ``--refit``, as many validation rows choose the epoch.
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
from common import FinishedRuns, circumstances, load_splits, load_task, missing, parser, print_table
from make_hub import BASE, SOURCES
from moe_tables import PUBLISHED
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

METHODS = ("constant", "svr", "transfer", "composed", "moe-k2")
KEY = (
    "task",
    "method",
    "seed",
    "labels",
    "hub",
    "base",
    "refit",
    "unfrozen",
    "epochs",
    "batch_size",
    "learning_rate",
    "loss",
)


def allowed(hub: Path, task: str) -> list[Any]:
    """Return the modules of a hub that have not been trained on labels like those of a task."""
    known = {name.replace("_", "-"): source.same for name, source in SOURCES.items()}
    modules = {name: module for name, module in _modules(hub).items() if name != BASE}
    return [module for name, module in modules.items() if task not in known.get(name, ())]


@cache
def _modules(hub: Path) -> dict[str, Any]:
    from matmosaic.modules import DirectoryStore

    store = DirectoryStore(hub)
    return {name: store.load(name) for name in store.names()}


@cache
def base_of(arguments_base: str) -> Any:
    """Return the base of the hub."""
    from matmosaic import load_module

    return load_module(arguments_base)


@cache
def graphs(data: Path, task: str, base: str) -> Any:
    """Return the graphs of a task's structures, as the base sees them."""
    from matmosaic import GraphTable

    return GraphTable.from_structures(load_task(data, task)[0], base_of(base).build_backbone())


def estimator(method: str, task: str, arguments: argparse.Namespace, seed: int) -> Any:
    """Return the estimator of a method."""
    from matmosaic import ComposedRegressor, MoERegressor, TransferRegressor

    kind, _, rest = method.partition("-")
    options = training(arguments, seed)
    if kind == "svr":
        return SupportVectors(base_of(arguments.base))
    if kind == "transfer":
        return TransferRegressor(
            _modules(arguments.hub)[rest] if rest else base_of(arguments.base), **options
        )
    modules = allowed(arguments.hub, task)
    if kind == "moe":
        if rest == "concat":
            return MoERegressor(modules, aggregation="concat", **options)
        return MoERegressor(modules, n_active=int(rest.removeprefix("k")) if rest else None, **options)
    chosen = {"combine": "features"} if rest == "features" else {"weighting": rest or "optimised"}
    return ComposedRegressor(modules, **chosen, **options)


def training(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the options that all training shares."""
    return {
        "unfrozen": arguments.unfrozen,
        "loss": arguments.loss,
        "max_epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "backbone_learning_rate": arguments.learning_rate * arguments.backbone_rate,
        "random_state": seed,
        "device": arguments.device,
    }


class SupportVectors:
    """Frozen features of a module, standardised, and a support vector regressor of scaled labels."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def fit(self, X: Any, y: np.ndarray) -> None:
        """Fit on graphs and labels in any unit."""
        features = self.module.features(X)
        regressor = SVR(C=10, gamma=0.5 / features.shape[1], epsilon=0.05)
        scaled = TransformedTargetRegressor(regressor, transformer=StandardScaler())
        self.model = make_pipeline(StandardScaler(), scaled).fit(features, y)

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions in the unit of the labels."""
        return self.model.predict(self.module.features(X))


def fit(
    arguments: argparse.Namespace, task: str, method: str, seed: int, labels: int | None
) -> dict[str, Any]:
    """Return the test error of a method on one of the published splits of a task."""
    y = load_task(arguments.data, task)[1]
    split = load_splits(arguments.data, task)[seed]
    train, validation = (np.array(split[part][:labels]) for part in ("train", "val"))
    test = np.array(split["test"])
    if method == "constant":
        return {"mae": float(np.abs(np.median(y[train]) - y[test]).mean()), "fit_seconds": 0.0}
    table = graphs(arguments.data, task, arguments.base)
    model = estimator(method, task, arguments, seed)
    start = time.perf_counter()
    if method == "svr" or arguments.refit:
        # Few labels are few: none are added for validation.
        rows = train if labels else np.concatenate([train, validation])
        if method != "svr":
            model.set_params(validation_fraction=0)
        model.fit(table[rows], y[rows])
    else:
        model.fit(table[train], y[train], X_val=table[validation], y_val=y[validation])
    seconds = time.perf_counter() - start
    row = {
        "mae": float(np.abs(model.predict(table[test]) - y[test]).mean()),
        "fit_seconds": round(seconds, 1),
    }
    if "valid_mae" in getattr(model, "history_", ()):
        row |= {"best_epoch": model.best_epoch_, "valid_mae": float(model.history_.valid_mae.min())}
    weights = getattr(model, "weights_", getattr(model, "gate_scores_", None))
    if weights is not None:
        row["weights"] = dict(zip(model.module_names_, np.round(weights, 4).tolist(), strict=True))
    return row


def collect(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is not yet in the results file and return all that was asked for."""
    finished = FinishedRuns(arguments.results, KEY)
    rows = []
    runs = itertools.product(arguments.tasks, arguments.labels, arguments.methods, range(arguments.seeds))
    for task, labels, method, seed in runs:
        shared = {name: getattr(arguments, name) for name in KEY[5:]}
        key = {
            "task": task,
            "method": method,
            "seed": seed,
            "labels": labels,
            "hub": arguments.hub.name,
            **shared,
        }
        rows.append(finished.once(key, partial(fit, arguments, task, method, seed, labels)))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per task, number of labels and method: mean and spread of the seeds."""
    lines = []
    for task, labels, method in dict.fromkeys((row["task"], row["labels"], row["method"]) for row in rows):
        some = [row for row in rows if (row["task"], row["labels"], row["method"]) == (task, labels, method)]
        errors = np.array([row["mae"] for row in some])
        line = {"task": task, "labels": labels or "all", "method": method}
        line["MAE"] = f"{errors.mean():.4g} ± {errors.std():.2g}"
        line["per seed"] = ", ".join(f"{error:.4g}" for error in errors)
        line["published mixture"] = PUBLISHED[task]["moe"] if labels is None else "-"
        lines.append(line | {"s per fit": f"{np.mean([row['fit_seconds'] for row in some]):.0f}"})
    return lines


def arguments_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of training."""
    options = parser(description)
    options.add_argument("--hub", type=Path, required=True, help="folder that make_hub.py wrote")
    options.add_argument("--base", default="chgnet:0.3.0", help="what the hub's modules started from")
    options.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--labels", type=_numbers, default=[None], help="such as all,100,10 (default: all)")
    options.add_argument("--refit", action="store_true", help="train on validation rows, too")
    options.add_argument("--unfrozen", type=lambda text: text.split(","), default=["all"])
    options.add_argument("--epochs", type=int, default=40)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--backbone-rate", type=float, default=1.0, help="relative to the head's")
    options.add_argument("--loss", choices=("l1", "mse"), default="l1")
    options.add_argument("--device", default="auto")
    options.add_argument("--results", type=Path, default=Path("hub_results.jsonl"))
    return options


def main() -> int:
    """Run from the command line."""
    arguments = arguments_parser(__doc__).parse_args()
    if missing(arguments.data):
        return 0
    print_table(summary(collect(arguments)), circumstances())
    return 0


def _numbers(text: str) -> list[int | None]:
    return [None if word == "all" else int(word) for word in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
