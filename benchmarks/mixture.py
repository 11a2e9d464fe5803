"""What a mixture of experts costs: epochs, layouts, prediction, memory, wall time, and the floor.

The 18 published extractors, last convolutions unfrozen, batches of 250, training rows of the first published
split. Each configuration runs in a process of its own with ``--threads`` threads (OMP_NUM_THREADS).
Times are medians, the best beside them, without the first of each run. Run nothing else beside it.

    python benchmarks/mixture.py                              # all parts, one and two threads
    python benchmarks/mixture.py --parts epochs,floor --threads 2
    python benchmarks/mixture.py --parts wall --epochs 100 --seeds 5
    python benchmarks/mixture.py --parts layouts,epochs,predict --device cuda --threads 8

Parts: ``epochs`` (18 of 18 and 2 of 18 experts), ``layouts`` (experts one after the other, side by side, all
at once), ``inactive`` (2 of 18 against 2 of 2), ``predict``, ``memory``, ``wall`` (structures to
tested estimator, on exfoliation) and ``floor`` (what arithmetic and memory allow).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from common import load_splits, load_task, missing, parser, published_modules, report
from floor import needs, rates
from layouts import Layouts

from matmosaic import GraphTable, MoERegressor
from matmosaic.learning.memory import keep_freed_memory

Row = dict[str, Any]

EXFOLIATION, PIEZO = "jarvis_2d_exfoliation", "piezoelectric_tensor"
BATCH = 250
SPARSE = 2
# Seconds per epoch, with two threads.
EPOCH_TO_REACH = {(EXFOLIATION, 18): 0.30, (PIEZO, 18): 0.60, (EXFOLIATION, 2): 0.04, (PIEZO, 2): 0.07}
# Largest difference of the features of all experts at once, relative to the largest feature.
SAME = 1e-5


class Setup:
    """A task with a published split, and the published modules, read when they are needed."""

    def __init__(self, arguments: argparse.Namespace, task: str, seed: int = 0) -> None:
        self.arguments = arguments
        self.task = task
        self.seed = seed
        self.device = arguments.device

    @cached_property
    def modules(self) -> list[Any]:
        """All published extractors."""
        return published_modules(self.arguments.data)

    @cached_property
    def labelled(self) -> tuple[list[Any], np.ndarray]:
        """All structures and labels of the task."""
        return load_task(self.arguments.data, self.task)

    def rows(self, part: str) -> tuple[list[Any], np.ndarray]:
        """Return structures and labels of a part of the split."""
        chosen = load_splits(self.arguments.data, self.task)[self.seed][part]
        return [self.labelled[0][row] for row in chosen], self.labelled[1][chosen]

    def table(self, structures: list[Any]) -> GraphTable:
        """Return graphs as all modules take them."""
        return GraphTable.from_structures(structures, self.modules[0].build_backbone())

    def fit(self, modules: Any = None, *, validate: bool = False, **options: Any) -> MoERegressor:
        """Return a mixture trained on the split's training rows."""
        options = {"batch_size": BATCH, "random_state": self.seed, "device": self.device, **options}
        model = MoERegressor(modules or self.modules, validation_fraction=0, **options)
        held = dict(zip(("X_val", "y_val"), self.rows("val"), strict=True)) if validate else {}
        return model.fit(*self.rows("train"), **held)

    def epoch_seconds(self, *args: Any, **options: Any) -> list[float]:
        """Return the seconds of each epoch after the first."""
        model = self.fit(*args, max_epochs=self.arguments.timed + 1, **options)
        return model.history_["dur"].tolist()[1:]

    def seconds(self, function: Callable[[], Any]) -> float:
        """Return how long a call takes."""
        start = time.perf_counter()
        function()
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def repeated(self, function: Callable[[], Any]) -> list[float]:
        """Return the seconds of some calls after the first."""
        return [self.seconds(function) for _ in range(self.arguments.timed + 1)][1:]


def figure(what: str, value: float, unit: str, *, best: float | str = "-", to_reach: Any = "-") -> Row:
    """Return a row of the table."""
    return {"what": what, "figure": value, "best": best, "unit": unit, "to reach": to_reach}


def timing(what: str, seconds: list[float], **options: Any) -> Row:
    """Return the row of some times."""
    return figure(what, float(np.median(seconds)), "s", best=min(seconds), **options)


def epochs(setup: Setup, n_active: int) -> list[Row]:
    """Measure training epochs, alone and with validation beside them."""
    named = f"{n_active} of {len(setup.modules)}"
    alone = setup.epoch_seconds(n_active=n_active)
    validated = setup.epoch_seconds(n_active=n_active, validate=True)
    return [
        timing(f"{named}: epoch", alone, to_reach=EPOCH_TO_REACH.get((setup.task, n_active), "-")),
        timing(f"{named}: epoch with validation", validated),
    ]


def inactive(setup: Setup) -> list[Row]:
    """Compare two modules alone with the same two among all, in turn in one process."""
    n_modules = len(setup.modules)
    scores = np.arange(n_modules) < SPARSE
    alone, among = [], []
    for _ in range(2):
        alone += setup.epoch_seconds(setup.modules[:SPARSE])
        among += setup.epoch_seconds(n_active=SPARSE, gate_init=scores)
    ratios = (float(np.median(among) / np.median(alone)), min(among) / min(alone))
    return [
        timing(f"{SPARSE} of {SPARSE}: epoch", alone),
        timing(f"{SPARSE} of {n_modules}, the same: epoch", among),
        figure("ratio", ratios[0], "", best=ratios[1], to_reach=1),
    ]


def predict(setup: Setup, n_active: int) -> list[Row]:
    """Measure predictions of all rows of the task, graphs given."""
    model = setup.fit(n_active=n_active, max_epochs=1)
    table = setup.table(setup.labelled[0])
    seconds = setup.repeated(lambda: model.predict(table))
    rates = len(table) / np.array([np.median(seconds), min(seconds)])
    what = f"{n_active} of {len(setup.modules)}: prediction"
    return [figure(what, round(rates[0]), "structures/s", best=round(rates[1]), to_reach=3000)]


def memory(setup: Setup) -> list[Row]:
    """Measure the peak of resident memory after imports, after reading, and after training all experts."""
    peaks = [peak_megabytes()]
    _ = setup.labelled, setup.modules
    peaks.append(peak_megabytes())
    setup.fit(max_epochs=setup.arguments.timed + 1, validate=True)
    peaks.append(peak_megabytes())
    return [
        figure("peak memory, imports alone", peaks[0], "MB"),
        figure("peak memory, structures and modules read", peaks[1], "MB"),
        figure("peak memory, 18 of 18 trained", peaks[2], "MB", to_reach=900),
    ]


def peak_megabytes() -> int:
    """Return the largest resident memory of this process so far."""
    import resource

    # Linux lets a process start with the peak of its parent, which has the same imports and no data.
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (10**6 if sys.platform == "darwin" else 10**6 / 1024))


def wall(setup: Setup, seed: int) -> list[Row]:
    """Time structures in memory to test error: graphs, trunks, training, prediction."""
    setup = Setup(setup.arguments, setup.task, seed)
    known = setup.rows("train")[0] + setup.rows("val")[0]
    test, labels = setup.rows("test")
    _ = setup.modules  # Read before the clock starts.
    # Built graphs are kept in the process, where the fit finds them.
    graphs = setup.seconds(lambda: setup.table(known))
    start = time.perf_counter()
    model = setup.fit(validate=True, max_epochs=setup.arguments.epochs)
    fit = time.perf_counter() - start
    training = float(model.history_["dur"].sum())
    start = time.perf_counter()
    error = float(np.abs(model.predict(test) - labels).mean())
    prediction = time.perf_counter() - start
    named = f"seed {seed}, {setup.arguments.epochs} epochs"
    parts = {"graphs": graphs, "trunks": fit - training, "training": training, "prediction": prediction}
    return [
        *(figure(f"{named}: {name}", seconds, "s") for name, seconds in parts.items()),
        figure(f"{named}: all", graphs + fit + prediction, "s", to_reach=60),
        figure(f"{named}: test MAE", error, "of the labels"),
    ]


def layouts(setup: Setup) -> list[Row]:
    """Time forward and backward passes of all tails over an epoch's batches, in turn in one process."""
    keep_freed_memory()
    tails = Layouts(setup.modules, setup.rows("train")[0], device=setup.device, batch_size=BATCH)
    differences = tails.differences()
    if not differences["features"] <= SAME:
        raise SystemExit(f"Experts at once have other features: {differences}; expected at most {SAME}.")
    kinds = {"one after the other": tails.loop, "side by side": tails.side_by_side, "at once": tails.at_once}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(setup.arguments.timed + 1):
        for name, layout in kinds.items():
            seconds[name].append(setup.seconds(partial(tails.epoch, layout)))
    rows = [timing(f"tails {name}: epoch", some[1:]) for name, some in seconds.items()]
    for name in ("one after the other", "at once"):  # Those of other threads are not counted.
        rows.append(figure(f"tails {name}: operations of a step", tails.operations(kinds[name]), ""))
    return rows + [figure(f"at once: difference of {what}", value, "") for what, value in differences.items()]


def floor(setup: Setup) -> list[Row]:
    """Compare an epoch of all experts with what this machine's arithmetic and memory allow."""
    keep_freed_memory()
    table = setup.table(setup.rows("train")[0])
    backbone = setup.modules[0].build_backbone()
    sizes = {"width": backbone.width, "n_gaussians": backbone.stages["embedding"].expansion.n_features}
    need = needs(table, n_experts=len(setup.modules), **sizes)
    n_bonds = table.n_bonds * BATCH // len(table)
    rate = rates(lambda call: min(setup.repeated(call)), n_bonds=n_bonds, device=setup.device, **sizes)
    epoch = setup.epoch_seconds()
    taken = {name: need[name] / rate[name] for name in need}
    rows = []
    for name, unit in (("products", "G multiply-adds"), ("traffic", "GB"), ("functions", "G values")):
        rows.append(figure(f"{name}: rate of the machine", rate[name] / 1e9, f"{unit}/s"))
        rows.append(figure(f"{name}: needed by an epoch", need[name] / 1e9, unit))
        rows.append(figure(f"{name}: time", taken[name], "s"))
    least = taken["products"] + taken["traffic"]
    rows += [figure("floor, products and traffic", least, "s"), timing("18 of 18: epoch", epoch)]
    for name, lowest in (("floor", least), ("(floor and functions)", least + taken["functions"])):
        ratio = float(np.median(epoch)) / lowest
        rows.append(figure(f"epoch / {name}", ratio, "", best=min(epoch) / lowest))
    return rows


BY_ACTIVE = [{"n_active": 18}, {"n_active": SPARSE}]
PARTS: dict[str, Callable[..., list[Row]]] = {
    "epochs": epochs,
    "layouts": layouts,
    "inactive": inactive,
    "predict": predict,
    "memory": memory,
    "wall": wall,
    "floor": floor,
}


def jobs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is to be measured: part, task, and options of the part."""
    seeds = [{"seed": seed} for seed in range(arguments.seeds)]
    variants = {"epochs": BY_ACTIVE, "predict": BY_ACTIVE, "wall": seeds}
    for part in arguments.parts:
        for task in arguments.tasks:
            if part == "memory" and sys.platform == "win32":
                print("skipped: memory; this system tells no peak", file=sys.stderr)
            elif part != "wall" or task == EXFOLIATION:
                yield from ({"part": part, "task": task, **options} for options in variants.get(part, [{}]))


def measure(job: dict[str, Any], threads: int) -> list[Row]:
    """Run a job in a process of its own."""
    print(job, f"threads: {threads}", file=sys.stderr, flush=True)
    command = [sys.executable, *sys.argv, "--job", json.dumps(job)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    about = {"part": job["part"], "task": job["task"], "threads": threads}
    return [{**about, **row} for row in json.loads(done.stdout)]


def parse() -> argparse.Namespace:
    """Return the options of the command line."""

    def words(text: str) -> list[str]:
        return text.split(",")

    options = parser(__doc__, tasks=(EXFOLIATION, PIEZO))
    options.add_argument("--parts", type=words, default=list(PARTS))
    options.add_argument("--threads", type=lambda text: list(map(int, words(text))), default=[1, 2])
    options.add_argument("--timed", type=int, default=20, help="epochs or calls that are timed")
    options.add_argument("--epochs", type=int, default=100, help="epochs of part wall")
    options.add_argument("--seeds", type=int, default=1, help="published splits of part wall, from the first")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        options.error(f"--parts must be among {', '.join(PARTS)}. Got {', '.join(sorted(unknown))}.")
    return arguments


def main() -> None:
    """Run from the command line."""
    arguments = parse()
    if missing(arguments.data):
        return
    if arguments.job is None:
        found = (measure(job, threads) for job in jobs(arguments) for threads in arguments.threads)
        report([row for rows in found for row in rows], arguments.json)
        return
    part, task, *_ = arguments.job.values()
    options = {name: value for name, value in arguments.job.items() if name not in ("part", "task")}
    print(json.dumps(PARTS[part](Setup(arguments, task), **options)))


if __name__ == "__main__":
    main()
