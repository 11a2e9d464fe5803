"""Which experts a sparse mixture is made of: the starting scores of its gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skorch.history import History
from torch import Tensor

from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning import TableDataset
from matmosaic.learning.proxy import knn_proxy


def given_scores(gate_init: Sequence[float] | np.ndarray, n_experts: int) -> np.ndarray:
    """Return scores (n_experts,) that a user gave, or raise InvalidParameterError."""
    try:
        scores = np.asarray(gate_init, dtype=float)
    except (TypeError, ValueError):
        scores = np.array([])
    if scores.shape != (n_experts,) or not np.isfinite(scores).all():
        raise InvalidParameterError(
            "'gate_init' must be 'proxy', 'warmup', 'uniform' or a finite score for each of the "
            f"{n_experts} modules. Got {gate_init!r}."
        )
    return scores


def proxy_scores(features: Sequence[Tensor], rows: TableDataset, *, names: Sequence[str]) -> np.ndarray:
    """Return scores of experts by how well neighbours in their features share their labels.

    Parameters
    ----------
    features : sequence of Tensor of shape (n_rows, width)
        Frozen features of each expert.
    rows : TableDataset
        With the labels and weights.
    names : sequence of str
        What the experts are called in messages.

    Returns
    -------
    ndarray of shape (n_experts,)
        Minus the leave-one-out mean absolute error, in standard deviations of the labels.
    """
    labels, weight = rows.targets.double().cpu().numpy().T

    def score(values: Tensor, name: str) -> float:
        called = f"features of module {name!r}"
        guess = knn_proxy(values.double().cpu().numpy(), labels, weight=weight, name=called)
        return -float(np.average(np.abs(guess - labels), weights=weight))

    return np.array([score(*pair) for pair in zip(features, names, strict=True)])


def check_warm_up(history: History, n_epochs: int, scores: np.ndarray) -> None:
    """Pass on what ended a warm-up before its last epoch, of which skorch makes no error.

    Raises
    ------
    InvalidParameterError
        If a loss, or a score in the end, is not finite.
    KeyboardInterrupt
        If it was interrupted.
    """
    losses = [epoch["train_loss"] for epoch in history.to_list() if "train_loss" in epoch]
    if not np.isfinite([*losses, *scores]).all():
        raise InvalidParameterError(
            f"gate_init='warmup' cannot choose modules: the training loss is not finite after epoch "
            f"{len(losses)} of its {n_epochs}. Lower 'learning_rate' or 'backbone_learning_rate', or use "
            "gate_init='proxy'."
        )
    if len(losses) < n_epochs:
        raise KeyboardInterrupt


def best(scores: np.ndarray, n_active: int) -> list[int]:
    """Return the numbers of the experts with the largest scores, in their own order."""
    return sorted(np.argsort(-scores, kind="stable")[:n_active].tolist())
