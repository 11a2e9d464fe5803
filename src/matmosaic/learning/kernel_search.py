"""Regression by one Gaussian kernel of all columns, its width and penalty found by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.svm import SVR
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from matmosaic.exceptions import InvalidParameterError, suggest
from matmosaic.learning.kernels import Array, KernelExpansion, LabelScale, SourceKernel, squared_distances
from matmosaic.learning.targets import check_sample_weight

__all__ = ["Choice", "KernelRegressor", "fit_svr", "make_folds", "weighted_rows"]

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

# Factors of squared distances whose mean between two rows counts as 1.
GAMMAS = (0.15, 0.4, 1.0)
#: C of support vectors, alpha of ridge regression.
PENALTIES = {"svr": (1.0, 4.0, 16.0), "kernel_ridge": (1e-3, 1e-2, 1e-1, 1.0)}
# Labels have a standard deviation of 1; a narrower tube takes longer and changes little.
EPSILON = 0.05
N_FOLDS = 5
# Choices are compared on so many rows at most; what is chosen is fitted to all.
MAX_SEARCH_ROWS = 1000


class Choice(NamedTuple):
    """A way to fit, of which the best is searched for."""

    method: str
    """``"svr"`` or ``"kernel_ridge"``."""
    transform: str
    """What is learnt: the labels, ``"identity"``, or the ``"log"`` of their distance to a low number."""
    gamma: float
    """Factor of squared distances, whose mean between two rows counts as 1."""
    penalty: float
    """C of support vectors, alpha of ridge regression."""


class KernelRegressor(RegressorMixin, BaseEstimator):
    """Support vector or kernel ridge regression with a Gaussian kernel, chosen by cross-validation.

    Compared are the width of the kernel, the penalty, and whether labels or logarithms are learnt, by the
    mean absolute error of rows that were left out. Distances are computed once.

    Parameters
    ----------
    method : {"svr", "kernel_ridge"}, default="svr"
        What is fitted.
    transforms : sequence of {"identity", "log"}, default=("identity", "log")
        What may be learnt: the labels, or the logarithm of their distance from a number a little below the
        smallest. The inverse of a predicted mean of logarithms is about a median, right for absolute errors.
    random_state : int, RandomState or None, default=None
        Divides the rows into folds.

    Attributes
    ----------
    expansion_ : KernelExpansion
        What predicts.
    best_params_ : dict
        What was chosen: ``method``, ``transform``, ``gamma``, ``penalty``.
    best_score_ : float
        Its mean absolute error over the folds with a minus sign, in the unit of the labels.
    """

    def __init__(
        self,
        method: str = "svr",
        *,
        transforms: Sequence[str] = ("identity", "log"),
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.method = method
        self.transforms = transforms
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KernelRegressor:
        """Search for the best choice, and fit it to all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            On comparable scales.
        y : array-like of shape (n_rows,)
            Labels, in any unit.
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows, >= 0.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        InvalidParameterError
            If ``method`` or a transform has no such value.
        """
        if self.method not in PENALTIES:
            raise InvalidParameterError(suggest(str(self.method), PENALTIES, what="value of 'method'"))
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        X, y, weight = weighted_rows(X, y, sample_weight)
        squares = squared_distances(X, X)
        spread = float(squares.mean()) or 1.0  # of equal rows
        error, best = min(self._search(squares / spread, y, weight), key=lambda one: one[0])
        self.best_params_, self.best_score_ = best._asdict(), -error
        labels = LabelScale.of(y, weight, best.transform)
        gamma = best.gamma / spread
        dual, offset = FITS[self.method](np.exp(-gamma * squares), labels.apply(y), weight, best.penalty)
        needed = np.flatnonzero(dual)  # of support vectors, not all rows
        kernel = SourceKernel(1.0, np.full(X.shape[1], np.sqrt(gamma)), np.zeros(X.shape[1]))
        self.expansion_ = KernelExpansion(X[needed], dual[needed], offset, kernel, labels)
        return self

    def predict(self, X: Any) -> Array:
        """Predict labels, shape (n_rows,), of rows of shape (n_rows, n_columns)."""
        check_is_fitted(self)
        return self.expansion_(validate_data(self, X, reset=False, dtype=np.float64))

    def _search(self, squares: Array, y: Array, weight: Array) -> Iterator[tuple[float, Choice]]:
        """Yield each choice with its error on rows that it was not fitted to."""
        rng = check_random_state(self.random_state)
        rows = np.sort(rng.permutation(len(y))[:MAX_SEARCH_ROWS])
        squares, y, weight = squares[np.ix_(rows, rows)], y[rows], weight[rows]
        folds = make_folds(len(y), N_FOLDS, rng)
        for gamma in GAMMAS:
            gram = np.exp(-gamma * squares)
            for transform, penalty in product(self.transforms, PENALTIES[self.method]):
                choice = Choice(self.method, transform, gamma, penalty)
                predicted = _cross_validated(choice, gram, y, weight, folds)
                yield float(np.average(np.abs(predicted - y), weights=weight)), choice


def weighted_rows(X: Array, y: Array, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Return the rows of weight > 0 with their weights, of mean 1; equal rows with equal labels as one.

    A copy of a row says nothing new: it would tell what the other one's label is, and noise would seem to be
    nil.
    """
    weight, y = check_sample_weight(sample_weight, len(y)), np.asarray(y, dtype=np.float64)
    if weight is None:
        X, y, weight = _merged(X, y, np.ones(len(y)))
    else:
        used = np.flatnonzero(weight)
        X, y, weight = _merged(X[used], y[used], weight[used])
    return X, y, weight / weight.mean()


def _merged(X: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return each distinct row with label once, in the order given, with the sum of the weights."""
    _, first, same = np.unique(np.column_stack([X, y]), axis=0, return_index=True, return_inverse=True)
    if len(first) in (1, len(y)):  # of one row nothing could be left out
        return X, y, weight
    order = np.argsort(first)
    kept = first[order]
    total: Array = np.bincount(same.ravel(), weights=weight).astype(np.float64)
    return X[kept], y[kept], total[order]


def make_folds(n_rows: int, n_folds: int, rng: np.random.RandomState) -> list[Fold]:
    """Return pairs of training and test rows; fewer folds where there are fewer rows."""
    return list(KFold(min(n_folds, n_rows), shuffle=True, random_state=rng).split(np.empty(n_rows)))


def _cross_validated(choice: Choice, gram: Array, y: Array, weight: Array, folds: Iterable[Fold]) -> Array:
    """Return a prediction for each row, by what was fitted to the other folds."""
    predicted = np.empty_like(y)
    for train, test in folds:
        labels = LabelScale.of(y[train], weight[train], choice.transform)
        dual, offset = FITS[choice.method](
            gram[np.ix_(train, train)], labels.apply(y[train]), weight[train], choice.penalty
        )
        predicted[test] = labels.undo(gram[np.ix_(test, train)] @ dual + offset)
    return predicted


def fit_svr(
    gram: Array, labels: Array, weight: Array, penalty: float, epsilon: float = EPSILON
) -> tuple[Array, float]:
    """Return coefficients of all rows, and the offset, of support vector regression."""
    svr = SVR(kernel="precomputed", C=penalty, epsilon=epsilon).fit(gram, labels, sample_weight=weight)
    dual = np.zeros(len(labels))
    dual[svr.support_] = svr.dual_coef_[0]
    return dual, float(svr.intercept_[0])


def fit_ridge(gram: Array, labels: Array, weight: Array, penalty: float) -> tuple[Array, float]:
    """Return coefficients of kernel ridge regression; standardised labels need no offset."""
    return solve(gram + np.diag(penalty / weight), labels, assume_a="pos"), 0.0


FITS = {"svr": fit_svr, "kernel_ridge": fit_ridge}
