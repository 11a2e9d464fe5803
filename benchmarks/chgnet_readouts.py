"""Errors of a support-vector regressor and of ridge on frozen features of CHGNet, by what the features are.

On the published splits, trained on their train and val rows: the mean over the five seeds of the mean
absolute error of the test rows. Names are those of the option ``readout``, ``early`` being ``early_mean``,
``early_std`` and ``early_max``; ``sum`` is the crystal feature as chgnet gives it, the sum over the atoms of
whatever cell was chosen.

    python benchmarks/chgnet_readouts.py
    python benchmarks/chgnet_readouts.py --weights 0.2.0,r2scan
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import load_splits, load_task, missing, parser, report
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from matmosaic import load_module

EARLY = ("early_mean", "early_std", "early_max")
READOUTS = {
    "mean": ("mean",),
    "early_mean": ("early_mean",),
    "mean + energy": ("mean", "energy"),
    "early": EARLY,
    "mean + early": ("mean", *EARLY),
    "mean + early + energy (default)": ("mean", *EARLY, "energy"),
    "sum + early": ("sum", *EARLY),
}


def parts_of(module: Any, structures: list[Any]) -> dict[str, NDArray[Any]]:
    """Return the parts of the features by name."""
    names = module.card.backbone_options["readout"]
    width = module.card.backbone_options["width"]
    features = module.features(structures)
    parts = dict(zip(names, np.split(features, width * np.arange(1, len(names)), axis=1), strict=True))
    n_atoms = np.array([[len(structure)] for structure in structures])
    return {**parts, "sum": parts["mean"] * n_atoms}


def errors(X: NDArray[Any], y: NDArray[Any], splits: list[dict[str, list[int]]]) -> dict[str, float]:
    """Return the mean test error of each model."""
    models = {
        "svr": SVR(C=10, gamma=0.5 / X.shape[1], epsilon=0.05),
        "ridge": RidgeCV(np.logspace(-2, 4, 13)),
    }
    found = {}
    for name, model in models.items():
        pipeline = make_pipeline(StandardScaler(), model)
        found[name] = float(np.mean([_error(pipeline, X, y, split) for split in splits]))
    return found


def _error(pipeline: Any, X: NDArray[Any], y: NDArray[Any], split: dict[str, list[int]]) -> float:
    train, test = split["train"] + split["val"], split["test"]
    mean, std = y[train].mean(), y[train].std()
    predicted = pipeline.fit(X[train], (y[train] - mean) / std).predict(X[test]) * std + mean
    return float(np.abs(predicted - y[test]).mean())


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("jarvis_2d_exfoliation", "mp_phonons"))
    options.add_argument("--weights", type=lambda text: text.split(","), default=["0.3.0"])
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    rows = []
    for task in arguments.tasks:
        structures, y = load_task(arguments.data, task)
        splits = load_splits(arguments.data, task)
        for weights in arguments.weights:
            parts = parts_of(load_module(f"chgnet:{weights}"), structures)
            for name, chosen in READOUTS.items():
                X = np.concatenate([parts[part] for part in chosen], axis=1)
                rows.append(
                    {"task": task, "weights": weights, "features": name, "width": X.shape[1]}
                    | errors(X, y, splits)
                )
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
