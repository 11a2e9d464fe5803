"""Kernels with a weight for each source of columns, and functions that are sums of these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError, suggest
from matmosaic.learning.targets import TargetScale

__all__ = ["TRANSFORMS", "Array", "KernelExpansion", "LabelScale", "SourceKernel", "squared_distances"]

Array = NDArray[np.float64]

#: What may be learnt of labels.
TRANSFORMS = ("identity", "log")


@dataclass(frozen=True, eq=False)
class SourceKernel:
    """A Gaussian of scaled distances, and an inner product: something smooth, and something linear.

    Parameters
    ----------
    amplitude : float
        Of the Gaussian.
    scales : ndarray of shape (n_columns,)
        What columns are multiplied by before distances are taken: the same for all of a source.
    slopes : ndarray of shape (n_columns,)
        What columns are multiplied by before inner products are taken.
    """

    amplitude: float
    scales: Array
    slopes: Array

    def __call__(self, values: Array, others: Array) -> Array:
        """Return the kernel of all pairs of rows, shape (n_values, n_others)."""
        squares = squared_distances(values * self.scales, others * self.scales)
        return self.amplitude * np.exp(-squares) + (values * self.slopes) @ (others * self.slopes).T

    def diagonal(self, values: Array) -> Array:
        """Return the kernel of each row with itself, shape (n_values,)."""
        return self.amplitude + ((values * self.slopes) ** 2).sum(axis=1)


def squared_distances(values: Array, others: Array) -> Array:
    """Return squared Euclidean distances between rows, shape (n_values, n_others)."""
    squares = (values**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * (values @ others.T)
    return np.maximum(squares, 0.0)


@dataclass(frozen=True)
class LabelScale:
    """Scale on which labels are learnt: standardised, or the logarithm of their distance to a low number.

    There is none for a tail to the left: labels that are sizes, such as moduli, are bounded from below alone.
    Labels with such a tail can be given with the opposite sign.

    Parameters
    ----------
    low : float
        Subtracted first, in the unit of the labels: for a logarithm, a little less than the smallest.
    scale : TargetScale
        Of what is left.
    """

    low: float
    scale: TargetScale

    @classmethod
    def of(cls, y: Array, weight: Array, transform: str) -> LabelScale:
        """Return the scale of labels (n_rows,); no logarithm of labels half of which are the smallest.

        Raises
        ------
        InvalidParameterError
            If the transform is none of :data:`TRANSFORMS`.
        InvalidTargetsError
            If labels are so large or so small that their squares are no floats.
        """
        if transform not in TRANSFORMS:
            raise InvalidParameterError(suggest(str(transform), TRANSFORMS, what="value of 'transforms'"))
        _check_size(y)
        spread = float(np.median(y - y.min()))
        if transform == "identity" or spread == 0:
            return cls(0.0, TargetScale.of(y, weight))
        low = float(y.min()) - spread / 2
        logarithms = TargetScale.of(np.log(y - low), weight)
        return cls(low, TargetScale(logarithms.mean, logarithms.std, "log"))

    def apply(self, y: Array) -> Array:
        """Map labels, of which none is below those that the scale was made of, to the scale."""
        return self.scale.scale(y - self.low)

    def undo(self, learnt: Array) -> Array:
        """Map what was learnt to the unit of the labels."""
        return self.scale.unscale(learnt) + self.low

    def stretch(self, learnt: Array) -> Array:
        """Return how much the labels change with what was learnt, in their unit."""
        slope = self.undo(learnt) - self.low if self.scale.transform == "log" else np.ones_like(learnt)
        return self.scale.std * slope


def _check_size(y: Array) -> None:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        variance = float(np.var(y))
    if np.ptp(y) > 0 and not 0 < variance < np.inf:
        raise InvalidTargetsError(
            f"Labels must have squares that are floats. Got labels from {y.min():g} to {y.max():g}; give "
            "them in another unit."
        )


@dataclass(frozen=True, eq=False)
class KernelExpansion:
    """A function of rows: a sum of kernels at the training rows, on the scale of the labels.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows.
    dual : ndarray of shape (n_rows,)
        Their coefficients.
    offset : float
        Added to the sum.
    kernel : SourceKernel
        Of two rows.
    labels : LabelScale
        Makes labels of the sum.
    """

    rows: Array
    dual: Array
    offset: float
    kernel: SourceKernel
    labels: LabelScale

    def learnt(self, values: Array) -> Array:
        """Return the function on the scale of the labels, shape (n,), for rows of shape (n, n_columns)."""
        return self.kernel(values, self.rows) @ self.dual + self.offset

    def __call__(self, values: Array) -> Array:
        """Return predictions in the unit of the labels."""
        return self.labels.undo(self.learnt(values))
