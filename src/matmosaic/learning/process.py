"""A Gaussian process with a weight for each source, for heavy-tailed noise, and support vectors beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from matmosaic.learning.evidence import Hyperparameters, most_likely
from matmosaic.learning.kernel_search import fit_svr, make_folds, weighted_rows
from matmosaic.learning.kernels import Array, KernelExpansion, LabelScale, SourceKernel

__all__ = ["SourceProcess"]

# Hyperparameters are learnt of so many rows at most, and choices are compared on so many.
MAX_SEARCH_ROWS = 600
# The search goes on, after labels far from what other rows say of them have been drawn nearer.
STEPS = (30, 20, 20)
# Residuals are clipped at so many standard deviations, which their median tells.
CLIP = 2.5 * 1.4826
PENALTIES = (1.0, 3.0, 10.0, 30.0)
EPSILONS = (0.01, 0.05, 0.1)
N_FOLDS = 4


class _Learnt(NamedTuple):
    """A Gaussian process on one scale of the labels."""

    transform: str
    scale: LabelScale
    labels: Array
    hyperparameters: Hyperparameters
    kernel: SourceKernel
    gram: Array
    dual: Array
    left_out: Array


class SourceProcess(RegressorMixin, BaseEstimator):
    """Gaussian process whose kernel weighs sources of columns, and the mean of it and support vectors.

    The weights, one in distances and one in a linear term for each source, are those that make the labels
    most likely. Labels far from what the other rows say of them are drawn nearer, which helps where the noise
    has heavy tails. It is no cure for wrong labels: one that is far outside of all others sets the scale on
    which all are learnt. Labels or logarithms are learnt, whichever has the smaller error of rows that are
    left out. Support vectors are fitted with the same kernel, and count half.

    Parameters
    ----------
    sources : sequence of int or None, default=None
        Source of each column; None for one source.
    svr : bool, default=True
        Whether predictions are the mean of the process and of support vector regression.
    transforms : sequence of {"identity", "log"}, default=("identity", "log")
        What may be learnt; see :class:`~matmosaic.learning.kernel_search.KernelRegressor`.
    random_state : int, RandomState or None, default=None
        Chooses rows to search with, and divides them into folds.

    Attributes
    ----------
    expansion_ : KernelExpansion
        What predicts.
    noise_ : float
        Variance of the noise, on the scale of the labels.
    row_weights_ : ndarray of shape (n_distinct_rows,)
        Weights of the training rows, of mean 1. Rows that are equal and have equal labels are one row, with
        the sum of their weights.
    best_params_ : dict
        ``transform`` and ``noise``; of the support vectors ``C`` and ``epsilon``.
    best_score_ : float
        Mean absolute error of the process, each row left out of the coefficients once, with a minus sign, in
        the unit of the labels.
    source_weights_ : ndarray of shape (n_sources,)
        Of the sources in distances, of sum 1.
    """

    def __init__(
        self,
        sources: Sequence[int] | None = None,
        *,
        svr: bool = True,
        transforms: Sequence[str] = ("identity", "log"),
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.sources = sources
        self.svr = svr
        self.transforms = transforms
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SourceProcess:
        """Learn kernel and coefficients.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            On comparable scales within a source.
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
        X, y, weight = weighted_rows(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        search = np.sort(rng.permutation(len(y))[:MAX_SEARCH_ROWS])
        found = [self._learn(X, y, weight, search, transform) for transform in self.transforms]
        errors = [np.average(np.abs(one.left_out - y), weights=weight) for one in found]
        best = found[int(np.argmin(errors))]
        self.best_score_ = -float(min(errors))
        self.noise_ = best.hyperparameters.noise
        self.source_weights_ = best.hyperparameters.distances / best.hyperparameters.distances.sum()
        self.best_params_ = {"transform": best.transform, "noise": self.noise_}
        dual, offset = self._with_svr(best, weight, search, rng) if self.svr else (best.dual, 0.0)
        self._factor: Array | None = None
        self.expansion_ = KernelExpansion(np.ascontiguousarray(X), dual, offset, best.kernel, best.scale)
        self.row_weights_ = weight
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict labels, and how sure that is.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            As in :meth:`fit`.
        return_std : bool, default=False
            Return standard deviations, too, of labels with their noise. The first call factorises the kernel
            of the training rows and keeps that, 8 bytes per pair of rows, in memory alone.

        Returns
        -------
        ndarray of shape (n_rows,), or two of these
            In the unit of the labels.
        """
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64)
        learnt = self.expansion_.learnt(values)
        mean = self.expansion_.labels.undo(learnt)
        return (mean, self._std(values) * self.expansion_.labels.stretch(learnt)) if return_std else mean

    def _std(self, values: Array) -> Array:
        """Return standard deviations on the scale of the labels."""
        kernel, rows = self.expansion_.kernel, self.expansion_.rows
        if getattr(self, "_factor", None) is None:
            self._factor = cholesky(_noisy(kernel(rows, rows), self.noise_, self.row_weights_), lower=True)
        explained = (solve_triangular(self._factor, kernel(rows, values), lower=True) ** 2).sum(axis=0)
        return np.sqrt(np.maximum(kernel.diagonal(values) + self.noise_ - explained, 0.0))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but what can be computed anew."""
        return {name: value for name, value in super().__getstate__().items() if name != "_factor"}

    def _learn(self, X: Array, y: Array, weight: Array, search: Any, transform: str) -> _Learnt:
        """Learn the kernel of some rows, and coefficients of all."""
        scale = LabelScale.of(y, weight, transform)
        labels = scale.apply(y)
        sources, sizes = self._sources(X)
        parts = [X[search][:, sources == one] / np.sqrt(size) for one, size in enumerate(sizes)]
        wanted, now = labels[search], Hyperparameters.start(len(sizes))
        for n_steps in STEPS:
            now = most_likely(parts, wanted, weight[search], now, n_steps=n_steps)
            kernel = now.kernel(sources, sizes)
            gram = kernel(X[search], X[search])
            wanted = _solve(gram, labels[search], now.noise, weight[search])[0]
        gram = kernel(X, X)
        _, dual, left_out = _solve(gram, labels, now.noise, weight)
        return _Learnt(transform, scale, labels, now, kernel, gram, dual, scale.undo(left_out))

    def _sources(self, X: Array) -> tuple[Any, Array]:
        """Return the number of each column's source, and the mean squared length of rows of each source."""
        given = np.zeros(X.shape[1], dtype=np.int64) if self.sources is None else self.sources
        _, sources = np.unique(given, return_inverse=True)
        sizes = np.bincount(sources, weights=(X**2).mean(axis=0))
        return sources, np.where(sizes > 0, sizes, 1.0)

    def _with_svr(
        self, learnt: _Learnt, weight: Array, search: Any, rng: np.random.RandomState
    ) -> tuple[Array, float]:
        """Return the mean of the coefficients and offsets of the process and of support vectors."""
        gram, labels = learnt.gram[np.ix_(search, search)], learnt.labels[search]
        folds = make_folds(len(search), N_FOLDS, rng)
        y = learnt.scale.undo(labels)

        def error(penalty: float, epsilon: float) -> float:
            predicted = np.empty_like(labels)
            for train, test in folds:
                own = gram[np.ix_(train, train)]
                dual, offset = fit_svr(own, labels[train], weight[search][train], penalty, epsilon)
                predicted[test] = gram[np.ix_(test, train)] @ dual + offset
            return float(np.average(np.abs(learnt.scale.undo(predicted) - y), weights=weight[search]))

        penalty, epsilon = min(product(PENALTIES, EPSILONS), key=lambda choice: error(*choice))
        self.best_params_ |= {"C": penalty, "epsilon": epsilon}
        dual, offset = fit_svr(learnt.gram, learnt.labels, weight, penalty, epsilon)
        return (dual + learnt.dual) / 2, offset / 2


def _noisy(gram: Array, noise: float, weight: Array) -> Array:
    return gram + np.diag(noise / weight)


def _solve(gram: Array, labels: Array, noise: float, weight: Array) -> tuple[Array, Array, Array]:
    """Return labels of which outliers were drawn nearer, their coefficients, and what others say of each."""
    factor = cholesky(_noisy(gram, noise, weight), lower=True)
    inverse = cho_solve((factor, True), np.eye(len(gram)))
    wanted = labels
    for _ in range(2):
        left_out = wanted - inverse @ wanted / np.diag(inverse)
        residuals = labels - left_out
        limit = CLIP * float(np.median(np.abs(residuals)))
        wanted = left_out + np.clip(residuals, -limit, limit)
    dual = inverse @ wanted
    return wanted, dual, wanted - dual / np.diag(inverse)
