"""Weights of modules: the convex combination of what each predicts that comes closest to the labels.

Wang et al., MoMa, arXiv:2502.15483.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from matmosaic.exceptions import MatmosaicError, SolverWarning
from matmosaic.learning.proxy import check_finite

__all__ = ["convex_weights", "leave_one_out_mean", "rmse", "sparse_weights"]

# Open solvers of quadratic programs, as cvxpy calls them, with the options of their tightest tolerance.
# The objective is of order 1, so errors to 1e-6 of a much smaller minimum need more than that.
SOLVERS: dict[str, dict[str, Any]] = {
    "CLARABEL": dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13),
    "OSQP": {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iter": 100_000},
    "SCS": {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iters": 100_000},
}
# Where the call of fit stands, seen from the warning about a solver.
FIT = 8
# What an interior point leaves of a weight that is 0.
NOTHING = 1e-8


def convex_weights(
    predictions: np.ndarray,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    solvers: Sequence[str] = tuple(SOLVERS),
) -> np.ndarray:
    r"""Return the convex combination of predictions that comes closest to the labels.

    .. math:: \min_w \sum_i s_i \Big(\sum_m w_m \hat y_{mi} - y_i\Big)^2 \Big/ \sum_i s_i,
        \quad w_m \ge 0, \quad \sum_m w_m = 1

    As the weights have sum 1, the error is a quadratic form in the residuals of the modules: the program
    is as small as the number of modules, whatever the number of rows.

    Parameters
    ----------
    predictions : ndarray of shape (n_modules, n_rows)
        In the unit of ``y``, finite; such as those of :func:`~matmosaic.learning.proxy.knn_proxy` for
        each module.
    y : ndarray of shape (n_rows,)
        Labels.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, :math:`s_i`, >= 0.
    solvers : sequence of str, default=("CLARABEL", "OSQP", "SCS")
        What cvxpy solves the program with; those after the first where the ones before fail.

    Returns
    -------
    ndarray of float64, shape (n_modules,)
        Not negative, with sum 1. Modules of equal predictions get equal weights.

    Raises
    ------
    InvalidParameterError
        If predictions are not finite.
    MatmosaicError
        If no solver finds a solution.

    Warns
    -----
    SolverWarning
        If a solver fails and the next is tried.

    References
    ----------
    Wang et al., arXiv:2502.15483 (2025).
    """
    check_finite("predictions", predictions)
    return _minimise(_gram(predictions, y, weight), solvers, stacklevel=4)  # The caller of this.


def sparse_weights(
    predictions: np.ndarray,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    max_modules: int | None = None,
    min_weight: float = 0.0,
) -> np.ndarray:
    """Return convex weights of few modules.

    While there are too many modules, or one has too small a weight, the one of the smallest weight is
    dropped and the program solved again for those that are left.

    Parameters
    ----------
    predictions, y, weight
        As for :func:`convex_weights`.
    max_modules : int, optional
        The most modules with a weight.
    min_weight : float, default=0
        The smallest weight of a module that has one; at most 1.

    Returns
    -------
    ndarray of float64, shape (n_modules,)
        Not negative, with sum 1.
    """
    check_finite("predictions", predictions)
    gram = _gram(predictions, y, weight)
    most = len(gram) if max_modules is None else max_modules
    weights = _minimise(gram)
    while (n_used := np.count_nonzero(weights)) > 1:
        used = np.flatnonzero(weights)
        least = used[np.argmin(weights[used])]
        if n_used <= most and weights[least] >= min_weight:
            break
        left = used[used != least]
        weights = np.zeros(len(gram))
        weights[left] = _minimise(gram[np.ix_(left, left)])
    return weights


def rmse(predicted: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the weighted root mean squared error of predictions (n_rows,), in the unit of ``y``."""
    return float(np.sqrt(np.average((predicted - y) ** 2, weights=weight)))


def leave_one_out_mean(y: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return for each row the mean of the other labels: what a proxy must beat to be of use.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, at least two of them above zero.

    Returns
    -------
    ndarray of shape (n_rows,)
        In the unit of ``y``.
    """
    weight = np.ones(len(y)) if weight is None else weight
    return (weight @ y - weight * y) / (weight.sum() - weight)


def _gram(predictions: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the products of the modules' residuals (n_modules, n_modules), of trace 1 unless all are 0."""
    residuals = np.asarray(predictions, dtype=float) - y
    residuals = residuals / (np.abs(residuals).max() or 1.0)  # Squares of large numbers overflow.
    gram = (residuals if weight is None else residuals * weight) @ residuals.T
    return gram / (np.trace(gram) or 1.0)


def _minimise(
    gram: np.ndarray, solvers: Sequence[str] = tuple(SOLVERS), *, stacklevel: int = FIT
) -> np.ndarray:
    """Minimise the quadratic form of a matrix over convex weights, with the first solver that can."""
    if len(gram) == 1:
        return np.ones(1)
    reasons: dict[str, str] = {}
    for solver in solvers:
        try:
            weights = _solve(gram, solver)
        except Exception as error:  # Solvers raise what they like.
            reasons[solver] = str(error) or type(error).__name__
            continue
        if reasons:
            _warn_of_failure(reasons, solver, stacklevel=stacklevel)
        return weights
    raise MatmosaicError(
        f"No solver found weights of the {len(gram)} modules: {reasons}. Leave out modules whose "
        "predictions are larger than the labels by many orders of magnitude, or give all modules the same "
        "weight, weighting='all-average'."
    )


def _solve(gram: np.ndarray, solver: str) -> np.ndarray:
    import cvxpy  # Takes longer to import than to solve.

    weights = cvxpy.Variable(len(gram))
    squared_error = cvxpy.Minimize(cvxpy.quad_form(weights, cvxpy.psd_wrap(gram)))
    problem = cvxpy.Problem(squared_error, [weights >= 0, cvxpy.sum(weights) == 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # They repeat the status.
        problem.solve(solver=solver, **SOLVERS.get(solver, {}))
    if problem.status != cvxpy.OPTIMAL:
        raise MatmosaicError(f"status {problem.status!r}")
    values = np.asarray(weights.value)
    values = np.where(values > NOTHING, values, 0.0)
    return values / values.sum()


def _warn_of_failure(reasons: dict[str, str], solver: str, *, stacklevel: int) -> None:
    listed = "; ".join(f"{name} failed ({reason})" for name, reason in reasons.items())
    warnings.warn(
        f"The weights of the modules were found by {solver}, as {listed}. They minimise the same error, to "
        f"the precision of {solver}; if the warning comes again, install another version of the solver that "
        "fails.",
        SolverWarning,
        stacklevel=stacklevel,
    )
