"""Regression by one kernel: support vectors or ridge, with all choices made by cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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

from matmosaic.learning.targets import TargetScale, check_sample_weight

__all__ = ["Choice", "KernelExpansion", "KernelRegressor", "LabelScale", "rbf", "squared_distances"]

Array = NDArray[np.float64]
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
    """What is learnt: the labels, ``"identity"``, or the ``"log"`` of their distance to the smallest."""
    gamma: float
    """Factor of squared distances, whose mean between two rows counts as 1."""
    penalty: float
    """C of support vectors, alpha of ridge regression."""


@dataclass(frozen=True)
class LabelScale:
    """Scale on which labels are learnt.

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
        """Return the scale of labels (n_rows,); no logarithm of labels half of which are the smallest."""
        spread = float(np.median(y - y.min()))
        if transform == "identity" or spread == 0:
            return cls(0.0, TargetScale.of(y, weight))
        low = float(y.min()) - spread / 2
        logarithms = TargetScale.of(np.log(y - low), weight)
        return cls(low, TargetScale(logarithms.mean, logarithms.std, "log"))

    def apply(self, y: Array) -> Array:
        """Map labels to the scale that is learnt; those below ``low``, of other rows, to its lower end."""
        floor = np.finfo(float).tiny if self.scale.transform == "log" else -np.inf
        return self.scale.scale(np.maximum(y - self.low, floor))

    def undo(self, learnt: Array) -> Array:
        """Map what was learnt to the unit of the labels."""
        return self.scale.unscale(learnt) + self.low


@dataclass(frozen=True, eq=False)
class KernelExpansion:
    """A function of rows: a sum of Gaussians at the training rows, on the scale of the labels.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Training rows.
    dual : ndarray of shape (n_rows,)
        Their coefficients.
    offset : float
        Added to the sum.
    gamma : float
        Factor of squared distances.
    labels : LabelScale
        Makes labels of the sum.
    """

    rows: Array
    dual: Array
    offset: float
    gamma: float
    labels: LabelScale

    def __call__(self, values: Array) -> Array:
        """Return predictions, shape (n,), for rows of shape (n, n_columns)."""
        sums = rbf(self.gamma * squared_distances(values, self.rows)) @ self.dual
        return self.labels.undo(sums + self.offset)


class KernelRegressor(RegressorMixin, BaseEstimator):
    """Support vector or kernel ridge regression with a Gaussian kernel, chosen by cross-validation.

    Compared are the methods, the width of the kernel, the penalty, and whether labels or logarithms are
    learnt, by the mean absolute error of rows that were left out. Distances are computed once.

    Parameters
    ----------
    methods : sequence of {"svr", "kernel_ridge"}, default=("svr",)
        What is compared.
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
        methods: Sequence[str] = ("svr",),
        *,
        transforms: Sequence[str] = ("identity", "log"),
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.methods = methods
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
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        weight = check_sample_weight(sample_weight, len(y))
        used = np.arange(len(y)) if weight is None else np.flatnonzero(weight)
        weight = np.ones(len(used)) if weight is None else weight[used] / weight[used].mean()
        X, y = np.asarray(X[used], dtype=np.float64), np.asarray(y[used], dtype=np.float64)
        squares = squared_distances(X, X)
        spread = float(squares.mean()) or 1.0  # of equal rows
        error, best = min(self._search(squares / spread, y, weight), key=lambda one: one[0])
        self.best_params_, self.best_score_ = best._asdict(), -error
        labels = LabelScale.of(y, weight, best.transform)
        gamma = best.gamma / spread
        dual, offset = FITS[best.method](rbf(gamma * squares), labels.apply(y), weight, best.penalty)
        needed = np.flatnonzero(dual)  # of support vector regression, not all rows
        self.expansion_ = KernelExpansion(X[needed], dual[needed], offset, gamma, labels)
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
        folds = list(KFold(min(N_FOLDS, len(y)), shuffle=True, random_state=rng).split(y))
        for gamma in GAMMAS:
            gram = rbf(gamma * squares)
            for method, transform in product(self.methods, self.transforms):
                for penalty in PENALTIES[method]:
                    choice = Choice(method, transform, gamma, penalty)
                    predicted = _cross_validated(choice, gram, y, weight, folds)
                    yield float(np.average(np.abs(predicted - y), weights=weight)), choice


def squared_distances(values: Array, others: Array) -> Array:
    """Return squared Euclidean distances between rows, shape (n_values, n_others)."""
    squares = (values**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * (values @ others.T)
    return np.maximum(squares, 0.0)


def rbf(squares: Array) -> Array:
    """Return the Gaussian kernel of scaled squared distances."""
    return np.exp(-squares)


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


def _fit_svr(gram: Array, labels: Array, weight: Array, penalty: float) -> tuple[Array, float]:
    """Return coefficients and offset of support vector regression."""
    svr = SVR(kernel="precomputed", C=penalty, epsilon=EPSILON).fit(gram, labels, sample_weight=weight)
    dual = np.zeros(len(labels))
    dual[svr.support_] = svr.dual_coef_[0]
    return dual, float(svr.intercept_[0])


def _fit_ridge(gram: Array, labels: Array, weight: Array, penalty: float) -> tuple[Array, float]:
    """Return coefficients of kernel ridge regression; standardised labels need no offset."""
    return solve(gram + np.diag(penalty / weight), labels, assume_a="pos"), 0.0


FITS = {"svr": _fit_svr, "kernel_ridge": _fit_ridge}
