"""Gaussian process regression whose parameters are found by one decomposition per width of the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from matmosaic.learning.kernels import rbf, squared_distances
from matmosaic.learning.targets import TargetScale

__all__ = ["GaussianProcess"]

Array = NDArray[np.float64]

# Factors of squared distances whose mean between two rows counts as 1.
GAMMAS = np.geomspace(0.05, 5.0, 9)
# Variance of the noise, relative to that of the function.
NOISES = np.geomspace(1e-4, 10.0, 26)


class GaussianProcess(RegressorMixin, BaseEstimator):
    """Gaussian process with a Gaussian kernel, of the width and noise that make the labels most likely.

    Attributes
    ----------
    rows_ : ndarray of shape (n_rows, n_columns)
        Training rows.
    labels_ : ndarray of shape (n_rows,)
        Their labels, standardised.
    scale_ : TargetScale
        Of the labels.
    gamma_ : float
        Factor of squared distances in the kernel.
    noise_ : float
        Variance of the noise relative to that of the function.
    variance_ : float
        Variance of the function, of standardised labels.
    best_params_ : dict
        ``gamma``, ``noise`` and ``variance``.
    """

    def fit(self, X: Any, y: Any) -> GaussianProcess:
        """Find the most likely parameters.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            On comparable scales.
        y : array-like of shape (n_rows,)
            Labels, in any unit.

        Returns
        -------
        self
            Fitted.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self.scale_ = TargetScale.of(y)
        labels = self.scale_.scale(y)
        squares = squared_distances(X, X)
        spread = float(squares.mean()) or 1.0
        gammas = (GAMMAS / spread).tolist()
        found = [(*_most_likely(rbf(gamma * squares), labels), gamma) for gamma in gammas]
        _, noise, variance, gamma = max(found)
        return self.set_learnt(X, labels, gamma=gamma, noise=noise, variance=variance)

    def set_learnt(
        self, rows: Array, labels: Array, *, gamma: float, noise: float, variance: float
    ) -> GaussianProcess:
        """Take training rows, standardised labels and parameters as they are, and get ready to predict."""
        self.rows_, self.labels_ = np.ascontiguousarray(rows), labels
        self.gamma_, self.noise_, self.variance_ = gamma, noise, variance
        self.best_params_ = {"gamma": gamma, "noise": noise, "variance": variance}
        gram = rbf(gamma * squared_distances(rows, rows))
        self._factor = cholesky(gram + noise * np.eye(len(gram)), lower=True)
        self._dual = cho_solve((self._factor, True), labels)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict labels, and how sure that is.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            As in :meth:`fit`.
        return_std : bool, default=False
            Return standard deviations, too, of labels with their noise.

        Returns
        -------
        ndarray of shape (n_rows,), or two of these
            In the unit of the labels.
        """
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64)
        gram = rbf(self.gamma_ * squared_distances(values, self.rows_))
        mean = self.scale_.unscale(gram @ self._dual)
        if not return_std:
            return mean
        explained = (solve_triangular(self._factor, gram.T, lower=True) ** 2).sum(axis=0)
        variance = self.variance_ * np.maximum(1.0 + self.noise_ - explained, 0.0)
        return mean, self.scale_.std * np.sqrt(variance)


def _most_likely(gram: Array, labels: Array) -> tuple[float, float, float]:
    """Return the largest log marginal likelihood (but for constants) over noises, with noise and variance."""
    values, vectors = np.linalg.eigh(gram)
    squares = (vectors.T @ labels) ** 2
    sums = np.maximum(values, 0.0)[:, None] + NOISES
    # The variance of the function that is most likely with each noise.
    variances = (squares[:, None] / sums).mean(axis=0)
    likelihoods = -0.5 * (len(labels) * np.log(variances) + np.log(sums).sum(axis=0))
    best = int(np.argmax(likelihoods))
    return float(likelihoods[best]), float(NOISES[best]), float(variances[best])
