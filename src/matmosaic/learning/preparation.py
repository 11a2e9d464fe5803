"""Columns of many sources as a regressor gets them: gaps filled, on one scale, sources of equal weight."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from matmosaic.exceptions import ConstantFeaturesWarning
from matmosaic.learning.columns import SMALLEST_SPREAD, moments
from matmosaic.learning.relevance import most_relevant

__all__ = ["Preparation", "Reduction", "prepare"]

Reduction: TypeAlias = "Literal['relevance', 'pca'] | None"

# Standard deviations: a row far outside of what was learnt from must not be far from all others.
# Smaller than the bound of mixtures, where it only keeps a linear map finite: here it is about distances.
LARGEST = 5.0
COLUMNS_NAMED = 5


@dataclass(frozen=True, eq=False)
class Preparation:
    """What was learnt of the columns of training rows, to treat others in the same way.

    Parameters
    ----------
    kept : ndarray of int, shape (n_kept,)
        Columns that are used: not constant, and not left out by a selection.
    mean, std : ndarray of shape (n_kept,)
        Of these, in the unit of each column, over the training rows in which it is known.
    factor : ndarray of shape (n_kept,)
        What standardised columns are multiplied by, so that sources of many columns and of few have equal
        weight in distances; their mean square is 1.
    components : ndarray of shape (n_components, n_kept) or None
        Principal components of the standardised columns, if these are projected on them.
    """

    kept: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    factor: NDArray[np.float64]
    components: NDArray[np.float64] | None = None

    def __call__(self, columns: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return scaled columns or principal components; what is not known becomes the mean, 0.

        Parameters
        ----------
        columns : ndarray of shape (n_rows, n_columns)
            Each in its unit; anything that is not finite is not known.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_kept) or (n_rows, n_components)
            Dimensionless.
        """
        values = (np.asarray(columns, dtype=float)[:, self.kept] - self.mean) / self.std
        values = np.where(np.isfinite(values), values, 0.0).clip(-LARGEST, LARGEST) * self.factor
        return values if self.components is None else values @ self.components.T

    def groups(self, sources: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the source of each column that is returned, given those of all; one for all components."""
        return sources[self.kept] if self.components is None else np.zeros(len(self.components), dtype=int)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as the constructor takes them."""
        return {name: value for name, value in vars(self).items() if value is not None}


def prepare(
    columns: NDArray[np.floating],
    sources: Sequence[Hashable],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
    *,
    reduction: Reduction = None,
    n_features: int = 100,
    rng: np.random.RandomState | None = None,
    names: Sequence[str] | None = None,
) -> Preparation:
    """Learn of training rows how to prepare columns.

    Parameters
    ----------
    columns : ndarray of shape (n_rows, n_columns)
        Each in its unit; anything that is not finite is not known.
    sources : sequence of hashable, length n_columns
        Where each column comes from: all sources get equal weight.
    y : ndarray of shape (n_rows,)
        Labels, which a selection by relevance looks at.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, > 0.
    reduction : {"relevance", "pca"} or None, default=None
        Select columns, or project all on principal components.
    n_features : int, default=100
        How many to select, or how many components; all if there are fewer.
    rng : RandomState, optional
        For the small noise that breaks ties where mutual information is estimated.
    names : sequence of str, optional
        What warnings call the columns.

    Returns
    -------
    Preparation
        Of the given rows alone. If all columns are constant, it maps every row to zeros.

    Warns
    -----
    ConstantFeaturesWarning
        If all columns are constant, or if numbers of a column are too large: it is left out.
    """
    mean, std = moments(np.asarray(columns, dtype=float), weight)
    if not np.isfinite(std).all():
        _warn_of_size(np.flatnonzero(~np.isfinite(std)), names)
        mean, std = np.where(np.isfinite(std), [mean, std], 0.0)
    kept = np.flatnonzero(std > SMALLEST_SPREAD * np.abs(mean))
    if not len(kept):
        _warn_of_constants(columns, names)
        kept, std = np.arange(len(std)), np.full_like(std, np.inf)
    plain = Preparation(kept, mean[kept], std[kept], np.ones(len(kept)))
    if reduction == "relevance":
        kept = kept[most_relevant(plain(columns), y, n_features, rng=rng)]
    balanced = Preparation(
        kept, mean[kept], std[kept], _balance([sources[column] for column in kept.tolist()])
    )
    if reduction == "pca":
        return replace(balanced, components=_principal(balanced(columns), n_features))
    return balanced


def _balance(sources: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return a factor for each column, so that the sum of squares is one number for each source."""
    counts = Counter(sources)
    return np.array([np.sqrt(len(sources) / (len(counts) * counts[source])) for source in sources])


def _warn_of_size(columns: NDArray[np.int64], names: Sequence[str] | None) -> None:
    warnings.warn(
        f"Numbers of {_listed(columns.tolist(), names)} are too large to be scaled, and are left out. Give "
        "them in a larger unit, or as logarithms.",
        ConstantFeaturesWarning,
        stacklevel=4,
    )


def _warn_of_constants(columns: NDArray[np.floating], names: Sequence[str] | None) -> None:
    n_rows, n_columns = columns.shape
    warnings.warn(
        f"All {n_columns} features are constant over the {n_rows} rows: all predictions are equal. They are "
        f"{_listed(range(n_columns), names)}. Give sources that tell these structures apart.",
        ConstantFeaturesWarning,
        stacklevel=4,
    )


def _listed(columns: Sequence[int], names: Sequence[str] | None) -> str:
    """Return what the first of some columns are called."""
    shown = [f"column {one}" if names is None else repr(names[one]) for one in columns[:COLUMNS_NAMED]]
    return ", ".join(shown) + ", ..." * (len(columns) > COLUMNS_NAMED)


def _principal(values: NDArray[np.float64], n_components: int) -> NDArray[np.float64]:
    """Return the first principal axes of centred columns, without those that hold rounding alone."""
    _, spreads, axes = np.linalg.svd(values, full_matrices=False)
    n_real = int((spreads > SMALLEST_SPREAD * spreads[0]).sum())
    return axes[: max(min(n_components, n_real), 1)]
