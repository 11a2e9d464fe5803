"""Does a transferred head gain from standardised features? The measurement behind docs/decisions/0010.

Transfer from ``mp_eform`` on the published splits, with features as they are and standardised, each with
``--heads`` different initial heads per split: mean test error, and mean of the best validation errors.

    python benchmarks/heads.py --tasks jarvis_2d_exfoliation
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
from common import load_splits, load_task, missing, parser, published_module, report
from moe_tables import run

from matmosaic import TransferRegressor
from matmosaic.learning import RegressionModel


def errors(
    module: Any, task: tuple[list[Any], np.ndarray], split: dict[str, list[int]], seed: int, epochs: int
) -> tuple[float, float]:
    """Return the test error and the best validation error of one fit."""
    model = TransferRegressor(module, max_epochs=epochs, random_state=seed)
    row = run("transfer", *task, split, model)
    return row["mae"], float(model.history_["valid_mae"].min())


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("jarvis_2d_exfoliation",))
    options.add_argument("--epochs", type=int, default=500)
    options.add_argument("--heads", type=int, default=2, help="initial heads per split")
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    module = published_module(arguments.data)
    rows = []
    for name in arguments.tasks:
        task, splits = load_task(arguments.data, name), load_splits(arguments.data, name)
        for head in range(arguments.heads):
            seeds = [(split, number + len(splits) * head) for number, split in enumerate(splits)]
            found = [errors(module, task, split, seed, arguments.epochs) for split, seed in seeds]
            with patch.object(RegressionModel, "scale_features", lambda *args, **kwargs: None):
                plain = [errors(module, task, split, seed, arguments.epochs) for split, seed in seeds]
            row = {"task": name, "heads": head}
            for what, pairs in (("as they are", plain), ("standardised", found)):
                test, validation = np.mean(pairs, axis=0).tolist()
                row |= {f"{what}: test": test, f"{what}: validation": validation}
            rows.append(row)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
