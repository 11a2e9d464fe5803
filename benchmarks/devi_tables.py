"""Mean test errors on the properties and splits of the paper on pre-training and fine-tuning.

Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1: five trials of 10 to
800 labels each, published with the paper's code. Labels are scaled to -1 ... 1 as there. Properties: shear
modulus (gv), phonon peak (ph), formation energy (fe), band gap (bg), piezoelectric modulus (pz), dielectric
constant (dc).

    python benchmarks/devi_tables.py
    python benchmarks/devi_tables.py --overlaps                       # what the tests and the sources share
    python benchmarks/devi_tables.py --backbone alignn --targets ph --methods scratch,gv --device cuda

Methods: ``constant`` (training median); ``scratch``; the name of a source (pairwise transfer: pre-train on
it, then fine-tune everything); ``mpt`` (pre-train on all properties but the target at once, one head each,
then fine-tune everything); and ``STRATEGY:SOURCE``, the paper's other strategies of fine-tuning: ``head`` (2:
a new head on frozen layers), ``inherit`` (3: the module's own head, trained on, on frozen layers), and any
layer group of the backbone, such as ``two_body`` and ``three_body`` (4), or ``last``. ``head:mpt`` works too.
A target is no source of its own.

All methods share one loss, one form of the head, one optimiser and one schedule, in pre-training and in
fine-tuning; the paper's comparison of multi-property with pairwise pre-training mixes several. Otherwise
different from the published code: the best validation epoch is tested and not the last, frozen layers are in
evaluation mode, the sources are merged (each crystal once), and no crystal of the test sets is pre-trained
on. Crystals are compared by pymatgen's StructureMatcher, since the same ones have other cells and digits in
the different sets.

Pre-trained modules are kept in ``--modules``, finished runs in ``--results``; what was stopped continues
where it was. Delete both after a change of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import math
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, FinishedRuns, circumstances, missing, print_table
from devi_data import (
    NAMES,
    PUBLISHED_TESTS,
    UNITS,
    VALIDATION,
    Property,
    Sources,
    others,
    overlaps,
    published,
)

# Learning rates of the head, and of the backbone relative to it: those of the networks' papers.
RATES = {"cgcnn": (1e-2, 0.5), "alignn-small": (1e-3, 1.0), "alignn": (1e-3, 1.0)}
HEAD_WIDTHS = (64,)  # Two layers, as the paper's new head.
STRATEGIES = {
    "cgcnn": ("head", "inherit", "last"),
    "alignn-small": ("head", "inherit", "two_body", "three_body"),
    "alignn": ("head", "inherit", "two_body", "three_body"),
}
# What training depends on: finished runs and modules are known by these options.
SETTINGS = (
    "backbone",
    "loss",
    "batch_size",
    "learning_rate",
    "backbone_rate",
    "pretrain_epochs",
    "pretrain_steps",
    "pretrain_size",
    "properties",
    "tested",
)
KEY = ("target", "method", "trial", "size", "epochs", *SETTINGS)


# --- training ----------------------------------------------------------------------------------------


class Workshop:
    """Makes tables, modules and estimators, each once, and runs them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from matmosaic import plugins

        self.arguments = arguments
        self.backbone, _, small = arguments.backbone.partition("-")
        build = plugins.load("backbones", self.backbone)
        self.options: dict[str, Any] = build.small().options() if small else {}
        self.tables: dict[str, Any] = {}

    @cached_property
    def properties(self) -> dict[str, Property]:
        """All properties that are pre-trained on or tested."""
        return {name: Property.read(self.arguments.data, name) for name in self.arguments.properties}

    @cached_property
    def sources(self) -> Sources:
        """The table for pre-training."""
        sources = Sources(self.properties, self.arguments.tested)
        logging.info("%d crystals, %d of them tested", *sources.counts)
        return sources

    @cached_property
    def source_graphs(self) -> Any:
        """Graphs of the table for pre-training."""
        return self.graphs(self.sources.structures)

    def target_graphs(self, target: str) -> Any:
        """Return the graphs of a target."""
        if target not in self.tables:
            self.tables[target] = self.graphs(self.properties[target].structures)
        return self.tables[target]

    def graphs(self, structures: list[Any]) -> Any:
        """Return structures as the backbone sees them."""
        from matmosaic import plugins
        from matmosaic.backbones import make_table

        return make_table(plugins.load("backbones", self.backbone)(**self.options), structures)

    def training(self, epochs: int, seed: int) -> dict[str, Any]:
        """Return the options that all training shares."""
        arguments = self.arguments
        return {
            "head_widths": HEAD_WIDTHS,
            "loss": arguments.loss,
            "max_epochs": epochs,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "backbone_learning_rate": arguments.learning_rate * arguments.backbone_rate,
            "validation_fraction": VALIDATION,
            "random_state": seed,
            "device": arguments.device,
        }

    def module(self, names: tuple[str, ...]) -> Any:
        """Return the module pre-trained on these properties, from the folder if it is there."""
        from matmosaic import load_module

        settings = json.dumps([getattr(self.arguments, name) for name in SETTINGS])
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        path = self.arguments.modules / f"{self.arguments.backbone}-{'-'.join(names)}-{digest}"
        if not path.exists():
            start = time.perf_counter()
            module = self.pretrained(names)
            module.save(path)
            logging.info("%s in %.0f s: %s", path.name, time.perf_counter() - start, module.card.metrics)
        return load_module(path)

    def pretrained(self, names: tuple[str, ...]) -> Any:
        """Train on one property, or on several with a head each."""
        from matmosaic import MPTRegressor, TransferRegressor

        rows = self.sources.rows(names, self.arguments.pretrain_size)
        labels = self.sources.labels[list(names)].iloc[rows]
        logging.info("pre-training on %s: %d structures", ", ".join(names), len(rows))
        steps = len(rows) / self.arguments.batch_size
        least = math.ceil(self.arguments.pretrain_steps / steps)
        options = self.training(max(least, self.arguments.pretrain_epochs), seed=0)
        options |= {"backbone": self.backbone, "backbone_options": self.options}
        table = self.source_graphs[rows]
        if len(names) == 1:
            model = TransferRegressor(**options).fit(table, labels[names[0]])
            return model.to_module(name=names[0], target=NAMES[names[0]], unit=UNITS[names[0]])
        model = MPTRegressor(**options).fit(table, labels)
        return model.to_module(name="mpt", unit={name: UNITS[name] for name in names})

    def estimator(self, method: str, target: str, trial: int) -> Any:
        """Return what is fine-tuned; None for the constant baseline."""
        from matmosaic import TransferRegressor

        if method == "constant":
            return None
        options = self.training(self.arguments.epochs, seed=trial)
        if method == "scratch":
            return TransferRegressor(backbone=self.backbone, backbone_options=self.options, **options)
        strategy, source = method.rpartition(":")[0], source_of(method)
        module = self.module(others(self.properties, target) if source == "mpt" else (source,))
        if strategy == "inherit":
            return TransferRegressor(module, head="inherit", unfrozen="head", **options)
        return TransferRegressor(module, unfrozen=strategy or "all", **options)

    def run(self, target: str, method: str, trial: int) -> dict[str, Any]:
        """Fit a method on a trial and return its test errors."""
        one = self.properties[target]
        train, validation = one.trial(trial, self.arguments.size)
        y, tested = one.y, np.setdiff1d(one.test, [*train, *validation])
        model = self.estimator(method, target, trial)
        start = time.perf_counter()
        if model is None:
            predicted, best = np.full(len(tested), np.median(y[train])), 0
        else:
            table = self.target_graphs(target)
            model.fit(table[train], y[train], X_val=table[validation], y_val=y[validation])
            predicted, best = model.predict(table[tested]), model.best_epoch_
        row = {**errors(y[tested], predicted), "best_epoch": best}
        if model is not None:
            row["valid_mae"] = float(model.history_["valid_mae"].min())
        if target == "pz":  # One label carries nearly all of the variance.
            rest = y[tested] < y[tested].max()
            without = errors(y[tested][rest], predicted[rest])
            row |= {f"{name}_without_outlier": value for name, value in without.items()}
        return {**row, "fit_seconds": round(time.perf_counter() - start, 1)}


def errors(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the mean absolute error and R2."""
    r2 = 1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return {"mae": float(np.abs(y - predicted).mean()), "r2": float(r2)}


def default_methods(arguments: argparse.Namespace, target: str) -> list[str]:
    """Return baselines, transfer from each property and from all, and each strategy with each source."""
    sources = others(arguments.properties, target)
    strategies = [":".join(pair) for pair in itertools.product(STRATEGIES[arguments.backbone], sources)]
    return ["constant", "scratch", *sources, "mpt", *strategies]


def source_of(method: str) -> str:
    """Return what a method starts from: a property, ``mpt``, or the method itself."""
    return method.rpartition(":")[2]


def collect(workshop: Workshop) -> list[dict[str, Any]]:
    """Run what is not yet in the results file and return all that was asked for."""
    arguments = workshop.arguments
    finished = FinishedRuns(arguments.results, KEY)
    rows = []
    for target in arguments.targets:
        methods = arguments.methods or default_methods(arguments, target)
        methods = [method for method in methods if source_of(method) != target]
        for method, trial in itertools.product(methods, range(1, arguments.trials + 1)):
            key = {**vars(arguments), "target": target, "method": method, "trial": trial}
            run = partial(workshop.run, target, method, trial)
            rows.append(finished.once({name: key[name] for name in KEY}, run))
    return rows


# --- tables ------------------------------------------------------------------------------------------


def summary(rows: list[dict[str, Any]], paper: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    """Return a row per target and method: means and spreads of the trials, the paper's beside them."""
    made = []
    for target, method in dict.fromkeys((row["target"], row["method"]) for row in rows):
        some = [row for row in rows if (row["target"], row["method"]) == (target, method)]
        made.append(
            {"target": target, "method": method, "MAE": spread(some, "mae"), "R2": spread(some, "r2")}
            | {"paper": paper.get((target, method), "-"), "MAE - scratch": paired(some, rows)}
            | {"MAE of the trials": ", ".join(f"{row['mae']:.4f}" for row in some)}
            | {"s a fit": float(np.mean([row["fit_seconds"] for row in some]))}
        )
        if target == "pz":
            without = {"MAE": spread(some, "mae_without_outlier"), "R2": spread(some, "r2_without_outlier")}
            made.append(
                dict.fromkeys(made[-1], "") | {"target": "pz without outlier", "method": method} | without
            )
    return made


def spread(rows: list[dict[str, Any]], name: str) -> str:
    """Return mean and standard deviation."""
    values = [row[name] for row in rows]
    return f"{np.mean(values):.4f} ± {np.std(values):.4f}"


def paired(some: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Return the mean difference from scratch on the same trials, and in how many it is better."""
    scratch = {(row["target"], row["trial"]): row["mae"] for row in rows if row["method"] == "scratch"}
    pairs = [(row["mae"], scratch.get((row["target"], row["trial"]))) for row in some]
    differences = [error - other for error, other in pairs if other is not None]
    if not differences:
        return "-"
    return f"{np.mean(differences):+.4f} ({sum(one < 0 for one in differences)} of {len(differences)} better)"


# --- command line ------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return text.split(",")

    made.add_argument("--data", type=Path, default=DATA, help="folder with devi/PROPERTY.jsonl.gz")
    made.add_argument("--targets", type=names, default=["ph", "gv", "dc"])
    made.add_argument(
        "--methods", type=names, help="by default all, with each source; of strategies 2, 3, last"
    )
    made.add_argument("--properties", type=names, default=list(NAMES), help="what there is to train on")
    made.add_argument("--size", type=int, default=800, help="labels: 10, 100, 200, 500 or 800")
    made.add_argument("--trials", type=int, default=5, help="number of the published trials, from the first")
    made.add_argument("--backbone", choices=RATES, default="cgcnn")
    made.add_argument("--epochs", type=int, default=60)
    made.add_argument("--pretrain-epochs", type=int, default=25)
    made.add_argument("--pretrain-steps", type=int, default=2000, help="at least; more epochs of few rows")
    made.add_argument("--pretrain-size", type=int, help="rows of each source; by default all")
    made.add_argument("--batch-size", type=int, default=64)
    made.add_argument("--learning-rate", type=float, help="of the head")
    made.add_argument("--backbone-rate", type=float, help="of the backbone, relative to the head")
    made.add_argument("--loss", choices=("l1", "mse"), default="l1")
    made.add_argument("--device", default="auto")
    made.add_argument("--modules", type=Path, default=Path("devi_modules"), help="folder of modules")
    made.add_argument(
        "--results", type=Path, default=Path("devi_results.jsonl"), help="file of finished runs"
    )
    made.add_argument("--overlaps", action="store_true", help="only count what tests and sources share")
    made.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = made.parse_args()
    if unknown := unknown_names(arguments):
        made.error(f"neither in --properties nor a method: {', '.join(unknown)}")
    for name, rate in zip(("learning_rate", "backbone_rate"), RATES[arguments.backbone], strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, rate)
    arguments.tested = "+".join(
        name for name in arguments.properties if name in {*PUBLISHED_TESTS, *arguments.targets}
    )
    return arguments


def unknown_names(arguments: argparse.Namespace) -> list[str]:
    """Return what was asked for and does not exist."""
    there = {*arguments.properties}.intersection(NAMES)
    asked = {*arguments.properties, *arguments.targets, *map(source_of, arguments.methods or ())}
    return sorted(asked - there - {"constant", "scratch", "mpt"})


def main() -> int:
    """Run from the command line."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if missing(arguments.data, "devi/splits.json.gz"):
        return 0
    workshop = Workshop(arguments)
    if arguments.overlaps:
        rows = table = overlaps(workshop.properties, arguments.targets)
    else:
        rows = collect(workshop)
        table = summary(rows, published(arguments.data, arguments.size))
    facts = {**circumstances(), **{name: getattr(arguments, name) for name in ("size", "epochs", *SETTINGS)}}
    if arguments.json:
        print(json.dumps({**facts, "rows": rows, "table": table}))
    else:
        print_table(table, facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
