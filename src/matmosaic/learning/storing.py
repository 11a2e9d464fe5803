"""Fitted regressors as numbers and arrays, so that they can be saved without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from matmosaic.exceptions import InvalidParameterError, ModuleFormatError, suggest
from matmosaic.learning.gaussian import GaussianProcess
from matmosaic.learning.kernels import KernelExpansion, KernelRegressor, LabelScale
from matmosaic.learning.regressors import RIDGE_ALPHAS
from matmosaic.learning.targets import TargetScale

__all__ = ["regressor_from_state", "regressor_state"]

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def regressor_state(regressor: Any) -> State:
    """Return what a fitted regressor has learnt.

    Parameters
    ----------
    regressor : scikit-learn regressor
        Of those that :mod:`matmosaic.learning.regressors` makes by name.

    Returns
    -------
    state : dict
        JSON values.
    arrays : dict of str to ndarray
        The rest.

    Raises
    ------
    InvalidParameterError
        If it is of another class.
    """
    for name, (cls, to_state, _) in _KINDS.items():
        if type(regressor) is cls:
            state, arrays = to_state(regressor)
            return {"kind": name, **state}, arrays
    raise InvalidParameterError(
        f"{type(regressor).__name__} cannot be saved as arrays. Use estimator='svr', 'kernel_ridge', "
        "'gaussian_process' or 'ridge', or None; or write the fitted ProbeRegressor with joblib.dump or "
        "pickle, at your own choice: such files run code when they are loaded."
    )


def regressor_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the regressor whose state and arrays :func:`regressor_state` gave.

    Raises
    ------
    ModuleFormatError
        If the state is of no known kind.
    """
    rest = dict(state)
    kind = str(rest.pop("kind", None))
    if kind not in _KINDS:
        raise ModuleFormatError(suggest(kind, _KINDS, what="kind of regressor"))
    return _KINDS[kind][2](rest, arrays)


def _kernel_state(regressor: KernelRegressor) -> State:
    expansion = regressor.expansion_
    state = {
        "offset": expansion.offset,
        "gamma": expansion.gamma,
        "low": expansion.labels.low,
        "scale": asdict(expansion.labels.scale),
        "best_params": regressor.best_params_,
        "best_score": regressor.best_score_,
        "methods": list(regressor.methods),
    }
    return state, {"rows": expansion.rows, "dual": expansion.dual}


def _kernel_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> KernelRegressor:
    labels = LabelScale(state["low"], TargetScale(**state["scale"]))
    regressor = KernelRegressor(tuple(state["methods"]))
    regressor.expansion_ = KernelExpansion(
        arrays["rows"], arrays["dual"], state["offset"], state["gamma"], labels
    )
    regressor.best_params_, regressor.best_score_ = dict(state["best_params"]), state["best_score"]
    regressor.n_features_in_ = arrays["rows"].shape[1]
    return regressor


def _gaussian_state(regressor: GaussianProcess) -> State:
    state = {"scale": asdict(regressor.scale_), "parameters": regressor.best_params_}
    return state, {"rows": regressor.rows_, "labels": regressor.labels_}


def _gaussian_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GaussianProcess:
    regressor = GaussianProcess()
    regressor.scale_ = TargetScale(**state["scale"])
    regressor.n_features_in_ = arrays["rows"].shape[1]
    return regressor.set_learnt(arrays["rows"], arrays["labels"], **state["parameters"])


def _ridge_state(regressor: RidgeCV) -> State:
    state = {"intercept": float(regressor.intercept_), "alpha": float(regressor.alpha_)}
    return state, {"coef": regressor.coef_}


def _ridge_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> RidgeCV:
    regressor = RidgeCV(RIDGE_ALPHAS)
    regressor.coef_, regressor.n_features_in_ = arrays["coef"], len(arrays["coef"])
    regressor.intercept_, regressor.alpha_ = np.float64(state["intercept"]), state["alpha"]
    return regressor


_KINDS: dict[str, tuple[type, Any, Any]] = {
    "kernel": (KernelRegressor, _kernel_state, _kernel_from_state),
    "gaussian_process": (GaussianProcess, _gaussian_state, _gaussian_from_state),
    "ridge": (RidgeCV, _ridge_state, _ridge_from_state),
}
