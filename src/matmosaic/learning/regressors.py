"""The regressors that a probe knows by name, all made for standardised columns and few rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from matmosaic.exceptions import InvalidParameterError, suggest
from matmosaic.learning.kernel_search import KernelRegressor
from matmosaic.learning.process import SourceProcess

__all__ = ["REGRESSORS", "make_regressor"]

RIDGE_ALPHAS = np.logspace(-3, 5, 17)


def _ridge(seed: int) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(RIDGE_ALPHAS)


def _trees(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(200, max_features=0.3, random_state=seed)


REGRESSORS: dict[str, Callable[[int], Any]] = {
    "svr": lambda seed: KernelRegressor("svr", random_state=seed),
    "kernel_ridge": lambda seed: KernelRegressor("kernel_ridge", random_state=seed),
    "gaussian_process": lambda seed: SourceProcess(svr=False, random_state=seed),
    "ridge": _ridge,
    "trees": _trees,
}


def make_regressor(estimator: Any, seed: int) -> Any:
    """Return a new regressor.

    Parameters
    ----------
    estimator : str, scikit-learn regressor or None
        A name of :data:`REGRESSORS`, a regressor, which is cloned, or None for the default.
    seed : int
        Of all its random numbers, unless it is the user's.

    Raises
    ------
    UnknownNameError, InvalidParameterError
        If there is none of that name, or if it is no regressor.
    """
    from sklearn.base import clone

    if estimator is None:
        return SourceProcess(random_state=seed)
    if isinstance(estimator, str):
        if estimator not in REGRESSORS:
            raise InvalidParameterError(suggest(estimator, REGRESSORS, what="value of 'estimator'"))
        return REGRESSORS[estimator](seed)
    methods = hasattr(estimator, "fit") and hasattr(estimator, "get_params")
    if isinstance(estimator, type) or not methods or not is_regressor(estimator):
        raise InvalidParameterError(
            f"'estimator' must be None, one of {', '.join(map(repr, REGRESSORS))}, or a scikit-learn "
            f"regressor, as an object. Got {estimator!r}."
        )
    return clone(estimator)
