"""What a module would be good for, guessed without training: neighbours' labels in its features.

Wang et al., MoMa, arXiv:2502.15483: the labels of a new task are predicted from the nearest rows in
the frozen features of each module; the modules whose weighted mean comes closest share the weight.
"""

from __future__ import annotations

import numpy as np

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError, MatmosaicError
from matmosaic.learning.columns import column_scale

__all__ = ["knn_proxy", "proxy_weights"]

# Below every cosine: a row that may not be a neighbour.
EXCLUDED = -2.0
# Cosines that differ by less are equal; which row is nearer must not depend on rounding.
ROUNDING = 1e-12
# Near the optimum the objective is quadratic: weights to 1e-6 need it to 1e-12.
TOLERANCE = 1e-13


def knn_proxy(
    features: np.ndarray,
    y: np.ndarray,
    *,
    n_neighbors: int = 5,
    temperature: float = 0.2,
    weight: np.ndarray | None = None,
    standardise: bool = True,
    block_size: int = 256,
) -> np.ndarray:
    r"""Predict the label of every row from the most similar other rows.

    .. math:: \hat y_i = \sum_{j \in N_i} w_j e^{c_{ij} / T} y_j \Big/ \sum_{j \in N_i} w_j e^{c_{ij} / T}

    with the cosine :math:`c_{ij}` of two feature vectors. Rows that are equally similar, so that only
    some of them fit into the K places of :math:`N_i`, share these places; the order of rows does not matter.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
        Frozen features of one module, finite. A vector of zeros has cosine 0 to all others.
    y : ndarray of shape (n_rows,)
        Labels, in any unit.
    n_neighbors : int, default=5
        K; all other rows where there are fewer.
    temperature : float, default=0.2
        T, dimensionless; the default is that of the published code.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, >= 0. Rows of weight 0 are nobody's neighbours.
    standardise : bool, default=True
        Whether features get zero mean and unit spread first. False is the published method: features
        behind a softplus are all positive, and their cosines all near 1.
    block_size : int, default=256
        Rows compared with all others at a time; memory is ``block_size * n_rows``.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Leave-one-out predictions, in the unit of ``y``.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of range, or features are not finite.
    InvalidTargetsError
        If fewer than two rows have a weight above zero.

    References
    ----------
    Wang et al., arXiv:2502.15483 (2025).
    """
    _check_positive(n_neighbors=n_neighbors, temperature=temperature, block_size=block_size)
    _check_finite("features", features)
    weight = _neighbour_weight(weight, len(y))
    directions = _directions(features, standardise, weight)
    predicted = np.empty(len(y))
    for start in range(0, len(y), block_size):
        rows = slice(start, start + block_size)
        cosines = directions[rows] @ directions.T
        cosines[:, weight == 0] = EXCLUDED
        np.fill_diagonal(cosines[:, start:], EXCLUDED)
        shares = _places(cosines, n_neighbors) * _similarity(cosines, temperature) * weight
        predicted[rows] = shares @ y / shares.sum(axis=1)
    return predicted


def proxy_weights(predictions: np.ndarray, y: np.ndarray, *, weight: np.ndarray | None = None) -> np.ndarray:
    r"""Return the convex combination of predictions that comes closest to the labels.

    .. math:: \min_w \sum_i s_i \Big(\sum_m w_m \hat y_{mi} - y_i\Big)^2,
        \quad w_m \ge 0, \quad \sum_m w_m = 1

    Parameters
    ----------
    predictions : ndarray of shape (n_modules, n_rows)
        In the unit of ``y``, finite; such as those of :func:`knn_proxy` for each module.
    y : ndarray of shape (n_rows,)
        Labels.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, :math:`s_i`.

    Returns
    -------
    ndarray of float64, shape (n_modules,)
        Not negative, with sum 1; accurate to 1e-6 where they are unique. Modules of equal predictions
        get equal weights.

    Raises
    ------
    InvalidParameterError
        If predictions are not finite.
    MatmosaicError
        If the solver finds no solution.

    References
    ----------
    Wang et al., arXiv:2502.15483 (2025).
    """
    _check_finite("predictions", predictions)
    residuals = np.asarray(predictions, dtype=float) - y
    # As the weights of the modules have sum 1, the error is a quadratic form in their residuals, and the
    # program as small as the number of modules.
    gram = (residuals if weight is None else residuals * weight) @ residuals.T
    weights = np.clip(_minimise(gram / (np.trace(gram) or 1.0)), 0.0, None)
    return weights / weights.sum()


def _neighbour_weight(weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    weight = np.ones(n_rows) if weight is None else np.asarray(weight, dtype=float)
    n_used = np.count_nonzero(weight)
    if n_used < 2:
        raise InvalidTargetsError(
            "The leave-one-out proxy needs at least 2 rows with a weight above 0, so that each has a "
            f"neighbour. Got {n_used}. Give more rows."
        )
    return weight


def _directions(features: np.ndarray, standardise: bool, weight: np.ndarray) -> np.ndarray:
    """Return features as vectors of length one, or zero."""
    values = np.asarray(features, dtype=float)
    if standardise:
        mean, std = column_scale(values, weight)
        values = (values - mean) / std
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


def _places(cosines: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return which share of a place each column has among the nearest of each row."""
    n_places = min(n_neighbors, cosines.shape[1])
    last = np.partition(cosines, -n_places, axis=1)[:, [-n_places]]
    nearer = cosines > last + ROUNDING
    tied = ~nearer & (cosines >= last - ROUNDING)
    left = n_places - nearer.sum(axis=1, keepdims=True)
    places = np.where(tied, left / tied.sum(axis=1, keepdims=True), nearer)
    return np.where(cosines > EXCLUDED, places, 0.0)


def _similarity(cosines: np.ndarray, temperature: float) -> np.ndarray:
    return np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)


def _minimise(gram: np.ndarray) -> np.ndarray:
    """Minimise the quadratic form of a matrix (n_modules, n_modules) over the simplex."""
    import cvxpy

    weights = cvxpy.Variable(len(gram))
    squared_error = cvxpy.Minimize(cvxpy.quad_form(weights, cvxpy.psd_wrap(gram)))
    problem = cvxpy.Problem(squared_error, [weights >= 0, cvxpy.sum(weights) == 1])
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    try:
        problem.solve(solver=cvxpy.CLARABEL, **tolerances)
    except cvxpy.SolverError as error:
        raise _unsolved(str(error)) from error
    if problem.status != cvxpy.OPTIMAL:
        raise _unsolved(problem.status)
    return np.asarray(weights.value)


def _unsolved(reason: str) -> MatmosaicError:
    return MatmosaicError(
        f"The solver found no weights of the modules: {reason}. Leave out modules whose predictions are "
        "larger than the labels by many orders of magnitude."
    )


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise InvalidParameterError(f"{name!r} must be above 0. Got {value!r}.")


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = ", ".join(map(str, bad[0]))
        raise InvalidParameterError(
            f"{name!r} must be finite. Got {name}[{place}]={values[tuple(bad[0])]} ({len(bad)} values). "
            "Leave out the module or the rows."
        )
