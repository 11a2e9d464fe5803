"""Mean and spread of the columns of a table of features."""

from __future__ import annotations

import numpy as np

# Networks run in single precision: a smaller spread, relative to a column's mean or to the widest column,
# is rounding, and would be noise if it were scaled up.
SMALLEST_SPREAD = 1e-6


def moments(values: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of what is known of each column.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Any unit; anything that is not finite is not known.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows.

    Returns
    -------
    mean, std : ndarray of shape (n_columns,)
        In the unit of the column; 0 where nothing is known, not finite where squares exceed what a float
        can hold.
    """
    known = np.isfinite(values)
    share = known * (np.ones(len(values)) if weight is None else weight)[:, None]
    total = share.sum(axis=0)
    total[total == 0] = 1.0
    values = np.where(known, values, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = (share * values).sum(axis=0) / total
        return mean, np.sqrt((share * (values - mean) ** 2).sum(axis=0) / total)


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
    mean, std = moments(values, weight)
    varies = std > SMALLEST_SPREAD * np.maximum(np.abs(mean), std.max(initial=0.0))
    return mean, np.where(varies, std, np.inf)
