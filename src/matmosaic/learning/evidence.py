"""How likely labels are under a Gaussian process that has a weight for each source of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize

from matmosaic.learning.kernels import Array, SourceKernel, squared_distances

__all__ = ["Hyperparameters", "most_likely"]

# Added to the variance of the noise, which keeps equations well-conditioned.
JITTER = 1e-6
# Of the logarithms of hyperparameters about where they start: weak, for sources that say nothing.
PRIOR_PRECISION = 1.0
START_NOISE, START_DISTANCE, START_SLOPE = 0.1, 0.5, 0.1
SMALLEST, LARGEST = -12.0, 8.0


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Of the kernel ``amplitude exp(-sum_s w_s d_s**2 / 2) + sum_s c_s x_s . x'_s``, and of the noise.

    Parameters
    ----------
    logs : ndarray of shape (2 + 2 n_sources,)
        Natural logarithms of the amplitude, of the variance of the noise, of w and of c.
    """

    logs: Array

    @classmethod
    def start(cls, n_sources: int) -> Hyperparameters:
        """Return where a search starts: all sources alike."""
        weights = np.full(n_sources, START_DISTANCE / n_sources)
        slopes = np.full(n_sources, START_SLOPE)
        return cls(np.log(np.concatenate([np.array([1.0, START_NOISE]), weights, slopes])))

    @property
    def amplitude(self) -> float:
        """Variance of what is not linear."""
        return float(self._values[0])

    @property
    def noise(self) -> float:
        """Variance of the noise of a row of weight 1."""
        return float(self._values[1]) + JITTER

    @property
    def distances(self) -> Array:
        """Weight of each source in distances, shape (n_sources,)."""
        return self._values[2:].reshape(2, -1)[0]

    @property
    def slopes(self) -> Array:
        """Weight of each source in inner products, shape (n_sources,)."""
        return self._values[2:].reshape(2, -1)[1]

    @property
    def _values(self) -> Array:
        return np.exp(np.clip(self.logs, SMALLEST, LARGEST))

    def kernel(self, sources: NDArray[np.int64], sizes: Array) -> SourceKernel:
        """Return the kernel of columns.

        Parameters
        ----------
        sources : ndarray of int, shape (n_columns,)
            Number of the source of each column.
        sizes : ndarray of shape (n_sources,)
            Mean squared length of the rows of each source, which counts as 1.
        """
        scales = np.sqrt(self.distances / (2 * sizes))[sources]
        return SourceKernel(self.amplitude, scales, np.sqrt(self.slopes / sizes)[sources])


def most_likely(
    parts: Sequence[Array], labels: Array, weight: Array, start: Hyperparameters, *, n_steps: int
) -> Hyperparameters:
    """Return the hyperparameters that make labels most likely.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_rows, n_columns)
        Columns of each source, of rows with a mean squared length of 1.
    labels : ndarray of shape (n_rows,)
        Of mean 0 and standard deviation 1.
    weight : ndarray of shape (n_rows,)
        Weights of the rows, by which the variance of their noise is divided.
    start : Hyperparameters
        Where to start.
    n_steps : int
        At most.

    Returns
    -------
    Hyperparameters
        The last ones; a local maximum after enough steps.
    """
    evidence = _Evidence(parts, labels, weight)
    found = minimize(evidence, start.logs, jac=True, method="L-BFGS-B", options={"maxiter": n_steps})
    return Hyperparameters(found.x)


class _Evidence:
    """Negative log marginal likelihood per row, with a weak prior, as a function of log hyperparameters."""

    def __init__(self, parts: Sequence[Array], labels: Array, weight: Array) -> None:
        self.squares = [squared_distances(part, part) for part in parts]
        self.products = [part @ part.T for part in parts]
        self.labels = labels
        self.weight = weight
        self.centre = Hyperparameters.start(len(parts)).logs

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """Return the value and its gradient."""
        now = Hyperparameters(logs)
        gaussian = np.exp(-0.5 * _weighted_sum(now.distances, self.squares))
        gram = now.amplitude * gaussian + _weighted_sum(now.slopes, self.products)
        gram[np.diag_indices_from(gram)] += now.noise / self.weight
        try:
            factor = cholesky(gram, lower=True, check_finite=False)
        except LinAlgError:  # of hyperparameters so extreme that the line search turns back
            return 1e10, np.zeros_like(logs)
        inverse = cho_solve((factor, True), np.eye(len(gram)), check_finite=False)
        dual = inverse @ self.labels
        value = 0.5 * self.labels @ dual + np.log(np.diag(factor)).sum()
        gradient = self._gradient(now, gaussian, inverse - np.outer(dual, dual))
        away = logs - self.centre
        value += 0.5 * PRIOR_PRECISION * (away**2).sum()
        return float(value) / len(dual), (gradient + PRIOR_PRECISION * away) / len(dual)

    def _gradient(self, now: Hyperparameters, gaussian: Array, rest: Array) -> Array:
        """Return the gradient of the likelihood; ``rest`` is its matrix of derivatives, twice."""
        curved = now.amplitude * gaussian * rest
        noise = (now.noise - JITTER) * (np.diag(rest) / self.weight).sum()
        distances = [
            -0.5 * w * np.vdot(curved, one) for w, one in zip(now.distances, self.squares, strict=True)
        ]
        slopes = [c * np.vdot(rest, one) for c, one in zip(now.slopes, self.products, strict=True)]
        return 0.5 * np.array([curved.sum(), noise, *distances, *slopes])


def _weighted_sum(weights: Array, matrices: Sequence[Array]) -> Array:
    total = np.zeros_like(matrices[0])
    for weight, matrix in zip(weights, matrices, strict=True):
        total += weight * matrix
    return total
