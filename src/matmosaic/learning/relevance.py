"""Select columns that say much about the labels, and little that those selected before them say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["most_relevant"]

# Scores divide by redundancy ** p + c, where p falls and c grows with the number of columns selected so far:
# the published schedule.
_FIRST_POWER, _LEAST_POWER, _POWER_DECAY = 4.5, 0.1, 0.4
_OFFSET = 1e-6


def most_relevant(
    values: NDArray[np.float64],
    y: NDArray[np.float64],
    n_selected: int,
    *,
    rng: np.random.RandomState | None = None,
) -> NDArray[np.int64]:
    """Return the columns with the best balance of relevance and redundancy, the best first.

    One column after the other is taken: the one with the largest mutual information with the labels,
    divided by ``r ** p + c``, where r is its largest normalised mutual information with a column that was
    taken before, p = max(0.1, 4.5 - n ** 0.4) and c = 1e-6 n ** 3 for n columns taken.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Finite; on any scale.
    y : ndarray of shape (n_rows,)
        Labels.
    n_selected : int
        How many to take; all if there are fewer.
    rng : RandomState, optional
        For the small noise that breaks ties in the estimate of relevance.

    Returns
    -------
    ndarray of int64, shape (n_selected,)
        Columns.

    References
    ----------
    De Breuck, Hautier, Rignanese, npj Comput. Mater. 7, 83 (2021), DOI 10.1038/s41524-021-00552-2.
    Relevance is estimated from nearest neighbours, as there; redundancy, which is needed of all pairs,
    from quantiles.
    """
    relevance = _relevance(values, y, rng)
    binned = _Binned(values)
    redundancy = np.zeros(values.shape[1])
    left = np.ones(values.shape[1], dtype=bool)
    taken: list[int] = []
    for n_taken in range(min(n_selected, values.shape[1])):
        power = max(_LEAST_POWER, _FIRST_POWER - n_taken**_POWER_DECAY)
        scores = relevance / (redundancy**power + _OFFSET * max(n_taken, 1) ** 3)
        best = int(np.argmax(np.where(left, scores, -np.inf)))
        taken.append(best)
        left[best] = False
        redundancy = np.maximum(redundancy, binned.information_with(best))
    return np.array(taken, dtype=np.int64)


def _relevance(
    values: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.RandomState | None
) -> NDArray[np.float64]:
    """Return the mutual information of each column with the labels, in nats."""
    from sklearn.feature_selection import mutual_info_regression

    n_neighbors = min(3, len(y) - 1)  # fewer rows have no more
    return mutual_info_regression(values, y, n_neighbors=n_neighbors, random_state=rng)


class _Binned:
    """Columns cut at their quantiles, as 0 and 1, so that matrix products count pairs of bins."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        n_rows, self.n_columns = values.shape
        # As many as leave some rows in each pair of bins.
        self.n_bins = int(np.clip(round(n_rows ** (1 / 3)), 2, 20))
        edges = np.quantile(values, np.arange(1, self.n_bins) / self.n_bins, axis=0)
        bins = (values[None] > edges[:, None]).sum(axis=0)
        hot = bins[:, :, None] == np.arange(self.n_bins)
        self._hot = hot.reshape(n_rows, -1).astype(np.float32)
        self._shares = self._hot.mean(axis=0, dtype=float).reshape(self.n_columns, self.n_bins)
        self._entropy = _entropy(self._shares).sum(axis=1)
        # What columns that know nothing of each other seem to share, by chance.
        used = (self._shares > 0).sum(axis=1) - 1
        self._bias = np.outer(used, used) / (2 * n_rows)

    def information_with(self, column: int) -> NDArray[np.float64]:
        """Return the mutual information of each column with one, as a share of their mean entropy."""
        own = self._hot.reshape(-1, self.n_columns, self.n_bins)[:, column]
        joint = (own.T @ self._hot).astype(float) / len(own)
        joint_entropy = _entropy(joint).reshape(self.n_bins, self.n_columns, self.n_bins).sum(axis=(0, 2))
        shared = self._entropy + self._entropy[column] - joint_entropy - self._bias[column]
        mean = (self._entropy + self._entropy[column]) / 2
        return np.clip(np.divide(shared, mean, out=np.zeros_like(mean), where=mean > 0), 0.0, 1.0)


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -p log p of each share, 0 of an empty one."""
    return -shares * np.log(np.where(shares > 0, shares, 1.0))
