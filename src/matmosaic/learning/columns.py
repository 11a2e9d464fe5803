"""Mean and spread of the columns of a table of features."""

from __future__ import annotations

import numpy as np

# Networks run in single precision: a smaller spread, relative to a column's mean or to the widest column,
# is rounding, and would be noise if it were scaled up.
SMALLEST_SPREAD = 1e-6


def column_scale(values: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Any unit.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, at least one of them above zero.

    Returns
    -------
    mean, std : ndarray of shape (n_columns,)
        In the unit of the column. ``std`` is infinite where a column is constant but for rounding:
        whatever is divided by it drops the column.
    """
    mean = np.average(values, axis=0, weights=weight)
    std = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    varies = std > SMALLEST_SPREAD * np.maximum(np.abs(mean), std.max(initial=0.0))
    return mean, np.where(varies, std, np.inf)
