"""Which experts a sparse mixture is made of: the starting scores of its gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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


def proxy_scores(features: Sequence[Tensor], rows: TableDataset) -> np.ndarray:
    """Return scores of experts by how well neighbours in their features share their labels.

    Parameters
    ----------
    features : sequence of Tensor of shape (n_rows, width)
        Frozen features of each expert.
    rows : TableDataset
        With the labels and weights.

    Returns
    -------
    ndarray of shape (n_experts,)
        Minus the leave-one-out mean absolute error, in standard deviations of the labels.
    """
    labels, weight = rows.targets.double().cpu().numpy().T
    guesses = (knn_proxy(one.double().cpu().numpy(), labels, weight=weight) for one in features)
    return np.array([-np.average(np.abs(guess - labels), weights=weight) for guess in guesses])


def best(scores: np.ndarray, n_active: int) -> list[int]:
    """Return the numbers of the experts with the largest scores, in their own order."""
    return sorted(np.argsort(-scores, kind="stable")[:n_active].tolist())
