"""Seconds per training epoch: transfer from mp_eform, and compressed against uncompressed graphs.

Each task is trained on the training rows of the first published split (no validation) with compressed
and with uncompressed graphs, in turn, in one run. ``shrink`` is the ratio of the bond tables, ``speed-up``
that of the median epochs; the differences are the largest, relative to the largest value, of the
predictions of the test rows and of the training losses over ``--compare`` epochs. Rounding errors of float32
grow in training as in any chaotic system, so the comparison of numbers is also made in float64.

    python benchmarks/epochs.py                        # last convolution unfrozen, all tasks
    python benchmarks/epochs.py --unfrozen all --epochs 8
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import load_splits, load_task, missing, parser, published_module, report

from matmosaic import GraphTable, TransferRegressor


def fit(
    module: Any, task: tuple[list[Any], np.ndarray], split: dict[str, list[int]], **options: Any
) -> tuple[TransferRegressor, np.ndarray]:
    """Return an estimator fitted without validation, and its predictions of the test rows."""
    structures, y = task
    model = TransferRegressor(module, random_state=0, batch_size=250, validation_fraction=0, **options)
    model.fit([structures[row] for row in split["train"]], y[split["train"]])
    return model, model.predict([structures[row] for row in split["test"]])


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value."""
    return float(np.abs(first - second).max() / max(np.abs(second).max(), 1e-12))


def compare(module: Any, task: Any, split: Any, unfrozen: str, epochs: int) -> dict[str, float]:
    """Return the differences between compressed and uncompressed training."""
    models, predictions = zip(
        *(
            fit(module, task, split, unfrozen=unfrozen, max_epochs=epochs, compress=one)
            for one in (True, False)
        ),
        strict=True,
    )
    losses = [model.history_["train_loss"].to_numpy() for model in models]
    return {"predictions": difference(*predictions), "losses": difference(*losses)}


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--unfrozen", default="last")
    options.add_argument("--epochs", type=int, default=40)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--compare", type=int, default=3, help="epochs whose numbers are compared")
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    module = published_module(arguments.data)
    rows = []
    for name in arguments.tasks:
        task, split = load_task(arguments.data, name), load_splits(arguments.data, name)[0]
        settings = module.build_backbone().graph_settings
        bonds = [
            GraphTable.from_structures(task[0], settings, compressed=one).n_bonds for one in (False, True)
        ]
        seconds = {True: [], False: []}
        for compressed in (True, False) * arguments.repeats:
            options = {"unfrozen": arguments.unfrozen, "max_epochs": arguments.epochs, "compress": compressed}
            seconds[compressed] += fit(module, task, split, **options)[0].history_["dur"].tolist()
        median = {compressed: float(np.median(some)) for compressed, some in seconds.items()}
        row: dict[str, Any] = {"task": name, "s/epoch": median[True], "fastest": min(seconds[True])}
        row |= {
            "uncompressed": median[False],
            "shrink": bonds[0] / bonds[1],
            "speed-up": median[False] / median[True],
        }
        row |= {"speed-up / shrink": row["speed-up"] / row["shrink"]}
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            found = compare(module, task, split, arguments.unfrozen, arguments.compare)
            row |= {f"{what} {str(dtype)[6:]}": value for what, value in found.items()}
        torch.set_default_dtype(torch.float32)
        rows.append(row)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
