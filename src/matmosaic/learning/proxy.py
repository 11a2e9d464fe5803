"""What a module would be good for, guessed without training: neighbours' labels in its features.

Wang et al., MoMa, arXiv:2502.15483: the labels of a new task are predicted from the nearest rows in
the frozen features of each module.
"""

from __future__ import annotations

import numpy as np

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.learning.columns import column_scale

__all__ = ["knn_proxy"]

# Below every cosine: a row that may not be a neighbour.
EXCLUDED = -2.0
# Cosines that differ by less are equal; which row is nearer must not depend on rounding.
ROUNDING = 1e-12


def knn_proxy(
    features: np.ndarray,
    y: np.ndarray,
    *,
    n_neighbors: int = 5,
    temperature: float = 0.2,
    weight: np.ndarray | None = None,
    standardize: bool = True,
    block_size: int = 256,
    name: str = "features",
) -> np.ndarray:
    r"""Predict the label of every row from the most similar other rows.

    .. math:: \hat y_i = \sum_{j \in N_i} w_j e^{c_{ij} / T} y_j \Big/ \sum_{j \in N_i} w_j e^{c_{ij} / T}

    with the cosine :math:`c_{ij}` of two feature vectors. Rows that are equally similar, so that only
    some of them fit into the K places of :math:`N_i`, share these places; the order of rows does not matter.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
        Frozen features of one module, finite. A vector of zeros has cosine 0 to all others.
    y : ndarray of shape (n_rows,)
        Labels, in any unit.
    n_neighbors : int, default=5
        K; all other rows where there are fewer.
    temperature : float, default=0.2
        T, dimensionless; the default is that of the published code.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, >= 0. Rows of weight 0 are nobody's neighbours.
    standardize : bool, default=True
        Whether features get zero mean and unit spread first. False is the published method: features
        behind a softplus are all positive, and their cosines all near 1.
    block_size : int, default=256
        Rows compared with all others at a time; memory is ``block_size * n_rows``, and time grows with
        the square of ``n_rows``.
    name : str, default="features"
        What the features are called in messages.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Leave-one-out predictions, in the unit of ``y``.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of range, or features are not finite.
    InvalidTargetsError
        If fewer than two rows have a weight above zero.

    References
    ----------
    Wang et al., arXiv:2502.15483 (2025).
    """
    _check_positive(n_neighbors=n_neighbors, temperature=temperature, block_size=block_size)
    _check_finite(name, features)
    weight = _neighbour_weight(weight, len(y))
    directions = _directions(features, standardize, weight)
    predicted = np.empty(len(y))
    for start in range(0, len(y), block_size):
        rows = slice(start, start + block_size)
        cosines = directions[rows] @ directions.T
        cosines[:, weight == 0] = EXCLUDED
        np.fill_diagonal(cosines[:, start:], EXCLUDED)
        shares = _places(cosines, n_neighbors) * _similarity(cosines, temperature) * weight
        predicted[rows] = shares @ y / shares.sum(axis=1)
    return predicted


def _neighbour_weight(weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    weight = np.ones(n_rows) if weight is None else np.asarray(weight, dtype=float)
    n_used = np.count_nonzero(weight)
    if n_used < 2:
        raise InvalidTargetsError(
            "The leave-one-out proxy needs at least 2 rows with a weight above 0, so that each has a "
            f"neighbour. Got {n_used}. Give more rows."
        )
    return weight


def _directions(features: np.ndarray, standardize: bool, weight: np.ndarray) -> np.ndarray:
    """Return features as vectors of length one, or zero."""
    values = np.asarray(features, dtype=float)
    if standardize:
        mean, std = column_scale(values, weight)
        values = (values - mean) / std
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


def _places(cosines: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return which share of a place each column has among the nearest of each row."""
    n_places = min(n_neighbors, cosines.shape[1])
    last = np.partition(cosines, -n_places, axis=1)[:, [-n_places]]
    nearer = cosines > last + ROUNDING
    tied = ~nearer & (cosines >= last - ROUNDING)
    left = n_places - nearer.sum(axis=1, keepdims=True)
    places = np.where(tied, left / tied.sum(axis=1, keepdims=True), nearer)
    return np.where(cosines > EXCLUDED, places, 0.0)


def _similarity(cosines: np.ndarray, temperature: float) -> np.ndarray:
    return np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise InvalidParameterError(f"{name!r} must be above 0. Got {value!r}.")


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise InvalidParameterError(
            f"The {name} must be finite. Got {values[row, column]} in row {row}, column {column} "
            f"({len(bad)} values). Leave out the module or the rows."
        )
