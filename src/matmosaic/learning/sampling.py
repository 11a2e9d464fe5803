"""Sampling of training rows when labels are skewed."""

from __future__ import annotations

import numpy as np

N_BINS = 30


def balancing_probabilities(y: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Return sampling probabilities that give each occupied bin of labels the same chance.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels.
    n_bins : int, default=30
        Bins of equal width between the smallest and the largest label.

    Returns
    -------
    ndarray of shape (n_rows,)
        Sums to 1.

    References
    ----------
    Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x.
    """
    edges = np.histogram_bin_edges(y, bins=n_bins)
    bins = np.digitize(y, edges[1:-1])
    weights = 1.0 / np.bincount(bins, minlength=n_bins)[bins]
    return weights / weights.sum()
