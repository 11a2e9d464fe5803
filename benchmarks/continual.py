"""What adding modules to a hub does: proxy and test error of composing, one module after the other.

Wang et al., MoMa, arXiv:2502.15483, expect of a growing hub that both fall together. Here the modules of a
hub are added in a random order, another one for each split of a task (Chang, Wang, Ertekin, npj Comput.
Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x)::

    python benchmarks/make_hub.py --output hubs/chgnet
    python benchmarks/continual.py --hub hubs/chgnet --tasks jarvis_2d_exfoliation,mp_phonons,expt_eform

Errors are relative to those of the first module alone; the correlation is Pearson's, of the two relative
errors over all later steps of a task. Options are those of ``hub_tables.py``.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import FinishedRuns, circumstances, load_splits, load_task, missing, print_table
from hub_tables import KEY, allowed, arguments_parser, graphs, training


def grow(arguments: argparse.Namespace, task: str, seed: int, n_modules: int) -> dict[str, Any]:
    """Return the errors of composing the first modules of an order."""
    from matmosaic import ComposedRegressor

    y = load_task(arguments.data, task)[1]
    table = graphs(arguments.data, task, arguments.base)
    split = load_splits(arguments.data, task)[seed]
    train, validation, test = (np.array(split[part]) for part in ("train", "val", "test"))
    modules = allowed(arguments.hub, task)
    order = np.random.default_rng(seed).permutation(len(modules))[:n_modules]
    model = ComposedRegressor([modules[one] for one in order], **training(arguments, seed))
    model.fit(table[train], y[train], X_val=table[validation], y_val=y[validation])
    error = np.abs(model.predict(table[test]) - y[test]).mean()
    return {"added": model.module_names_[-1], "proxy_error": model.proxy_error_, "mae": float(error)}


def collect(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is not yet in the results file and return all that was asked for."""
    finished = FinishedRuns(arguments.results, ("n_modules", *KEY))
    rows = []
    for task, seed in itertools.product(arguments.tasks, range(arguments.seeds)):
        shared = {name: getattr(arguments, name) for name in KEY[5:]}
        for n_modules in range(1, 1 + len(allowed(arguments.hub, task))):
            key = {"n_modules": n_modules, "task": task, "method": "composed", "seed": seed, "labels": None}
            key |= {"hub": arguments.hub.name, **shared}
            rows.append(finished.once(key, partial(grow, arguments, task, seed, n_modules)))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per task: errors relative to the first module's, step by step, and their correlation."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        steps = [row for row in rows if row["task"] == task]
        proxy, error = (_relative(steps, name) for name in ("proxy_error", "mae"))
        line = {"task": task, "splits": len(proxy)}
        for name, values in (("proxy error", proxy), ("test error", error)):
            line[name] = ", ".join(f"{value:.3f}" for value in values.mean(axis=0))
        line["correlation"] = float(np.corrcoef(proxy[:, 1:].ravel(), error[:, 1:].ravel())[0, 1])
        lines.append(line)
    return lines


def _relative(steps: list[dict[str, Any]], name: str) -> np.ndarray:
    """Return errors of shape (n_splits, n_modules), divided by the first of each split."""
    seeds = sorted({row["seed"] for row in steps})
    values = np.array([[row[name] for row in steps if row["seed"] == seed] for seed in seeds])
    return values / values[:, :1]


def main() -> int:
    """Run from the command line."""
    options = arguments_parser(__doc__)
    options.set_defaults(results=Path("continual_results.jsonl"))
    arguments = options.parse_args()
    if missing(arguments.data):
        return 0
    print_table(summary(collect(arguments)), circumstances())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
