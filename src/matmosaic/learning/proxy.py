"""What a module would be good for, guessed without training: neighbours' labels in its features.

Wang et al., MoMa, arXiv:2502.15483: the labels of a new task are predicted from the nearest rows in
the frozen features of each module.
"""

from __future__ import annotations

import numpy as np

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.learning.columns import column_scale

__all__ = ["check_finite", "knn_proxy"]

# Cosines that differ by less are equal; which row is nearer must not depend on rounding.
ROUNDING = 1e-12
# Below every cosine: what is no neighbour.
NOBODY = -2.0
# Rows are first compared in as many groups; fewer of them are looked at one by one then.
N_PARTS = 16
# More pairs than these are faster as a product of matrices.
MANY_PAIRS = 2**16


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
        Rows compared with all others at a time; memory is ``block_size * n_rows`` numbers in single
        precision, and time grows with the square of ``n_rows``.
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
    check_finite(name, features)
    weight = _neighbour_weight(weight, len(y))
    directions = _directions(features, standardize, weight)
    others = np.flatnonzero(weight)
    search = _Search(directions[others], n_neighbors)
    y, weight = np.asarray(y, dtype=float)[others], weight[others]
    predicted = np.empty(len(directions))
    for start in range(0, len(directions), block_size):
        rows = np.arange(start, min(start + block_size, len(directions)))
        row, other, cosine = search.near(directions[rows], _position(rows, others))
        share = _places(row, cosine, n_neighbors) * _similarity(row, cosine, temperature) * weight[other]
        predicted[rows] = np.bincount(row, share * y[other]) / np.bincount(row, share)
    return predicted


class _Search:
    """Find the rows that may be among the nearest, at the cost of single precision.

    Cosines of all pairs are computed in single precision, and those of the few pairs that its rounding
    leaves in question in double precision.

    Parameters
    ----------
    directions : ndarray of shape (n_others, n_features)
        Vectors of length one, or zero: what is searched.
    n_neighbors : int
        How many are looked for.
    """

    def __init__(self, directions: np.ndarray, n_neighbors: int) -> None:
        self.directions = directions
        self.n_neighbors = n_neighbors
        padding = -len(directions) % N_PARTS
        self._single = np.pad(directions, ((0, padding), (0, 0))).astype(np.float32)
        # Twice the largest error of a dot product of vectors of length one, for each of two cosines.
        self._margin = 4 * (directions.shape[1] + 4) * float(np.finfo(np.float32).eps) / 2 + ROUNDING

    def near(self, directions: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return numbers of rows, of others, and cosines of pairs that hold the nearest of each row.

        Parameters
        ----------
        directions : ndarray of shape (n_rows, n_features)
            Of the rows.
        own : ndarray of int, shape (n_rows,)
            The number of each row among the others, which is not its neighbour; -1 if it is none of them.
        """
        cosines = directions.astype(np.float32) @ self._single.T
        cosines[:, len(self.directions) :] = NOBODY
        mine = np.flatnonzero(own >= 0)
        cosines[mine, own[mine]] = NOBODY
        least = np.maximum(self._bound(cosines) - self._margin, (NOBODY - 1.0) / 2)
        row, other = np.divmod(np.flatnonzero(cosines >= least), cosines.shape[1])
        return row, other, _dot(directions, row, self.directions, other)

    def _bound(self, cosines: np.ndarray) -> np.ndarray:
        """Return a number for each row that the cosine of none of its neighbours is below."""
        # Of the largest of each group, the K-th is at most the K-th of all, and much faster to find.
        largest = cosines.reshape(len(cosines), N_PARTS, -1).max(axis=1)
        if largest.shape[1] < self.n_neighbors:
            return np.full((len(cosines), 1), NOBODY)
        return np.partition(largest, -self.n_neighbors, axis=1)[:, [-self.n_neighbors]]


def _position(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the place of each row among others, which are in order; -1 where it is not there."""
    places = np.minimum(np.searchsorted(others, rows), len(others) - 1)
    return np.where(others[places] == rows, places, -1)


def _dot(a: np.ndarray, row: np.ndarray, b: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the dot products of pairs of rows."""
    if len(row) > MANY_PAIRS:
        return (a @ b.T)[row, other]
    return np.einsum("ij,ij->i", a[row], b[other])


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


def _places(row: np.ndarray, cosine: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return which share of a place each pair has among the nearest of its row."""
    order = np.lexsort((-cosine, row))
    count = np.bincount(row)
    n_places = np.minimum(n_neighbors, count)
    last = cosine[order][np.cumsum(count) - count + n_places - 1][row]
    nearer = cosine > last + ROUNDING
    tied = ~nearer & (cosine >= last - ROUNDING)
    left = (n_places - np.bincount(row, nearer)) / np.bincount(row, tied)
    return np.where(tied, left[row], nearer)


def _similarity(row: np.ndarray, cosine: np.ndarray, temperature: float) -> np.ndarray:
    largest = np.full(row[-1] + 1, NOBODY)
    np.maximum.at(largest, row, cosine)
    return np.exp((cosine - largest[row]) / temperature)


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise InvalidParameterError(f"{name!r} must be above 0. Got {value!r}.")


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise InvalidParameterError, with the first place, if a table (n_rows, n_columns) is not finite."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise InvalidParameterError(
            f"The {name} must be finite. Got {values[row, column]} in row {row}, column {column} "
            f"({len(bad)} values). Leave out the module or the rows."
        )
