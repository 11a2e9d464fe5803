"""Fitted regressors as numbers and arrays, so that they can be saved without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from matmosaic.exceptions import InvalidParameterError, ModuleFormatError, suggest
from matmosaic.learning.kernel_search import PENALTIES, KernelRegressor
from matmosaic.learning.kernels import TRANSFORMS, KernelExpansion, LabelScale, SourceKernel
from matmosaic.learning.process import SourceProcess
from matmosaic.learning.regressors import RIDGE_ALPHAS
from matmosaic.learning.targets import TargetScale
from matmosaic.modules._card_schema import NUMBER, OBJECT, record
from matmosaic.modules._schema import check

__all__ = ["check_arrays", "regressor_from_state", "regressor_state"]

_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_EXPANSION: dict[str, Any] = {
    "offset": NUMBER,
    "amplitude": {"type": "number", "minimum": 0},
    "low": NUMBER,
    "scale": record(mean=NUMBER, std=_POSITIVE, transform={"type": "string", "enum": TRANSFORMS}),
    "best_params": OBJECT,
    "best_score": NUMBER,
}
_FIELDS = {
    "kernel": record(**_EXPANSION, method={"type": "string", "enum": tuple(PENALTIES)}),
    "process": record(**_EXPANSION, noise=_POSITIVE, svr={"type": "boolean"}),
    "ridge": record(intercept=NUMBER, alpha={"type": "number", "minimum": 0}),
}
_ROWS = {"rows": "nd", "dual": "n", "scales": "d", "slopes": "d"}
_SHAPES = {
    "kernel": _ROWS,
    "process": {**_ROWS, "row_weights": "n", "source_weights": "s"},
    "ridge": {"coef": "d"},
}

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
        If the state is of no known kind, or if fields or arrays are not those of its kind.
    """
    rest = dict(state)
    kind = str(rest.pop("kind", None))
    if kind not in _KINDS:
        raise ModuleFormatError(suggest(kind, _KINDS, what="kind of regressor"))
    check(rest, _FIELDS[kind], f"The saved regressor of kind {kind!r}")
    check_arrays(arrays, _SHAPES[kind], source=f"the saved regressor of kind {kind!r}")
    return _KINDS[kind][2](rest, arrays)


def check_arrays(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, str], *, source: str) -> None:
    """Raise ModuleFormatError unless arrays are there, of numbers, with shapes that agree.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        By name.
    shapes : mapping of str to str
        A letter for each axis, of the same length in all arrays; such as ``{"rows": "nd", "dual": "n"}``.
    source : str
        What the message calls where they come from.
    """
    if arrays.keys() != shapes.keys():
        raise ModuleFormatError(f"Arrays of {source} must be {sorted(shapes)}. Got {sorted(arrays)}.")
    lengths: dict[str, int] = {}
    for name, axes in shapes.items():
        got = arrays[name].shape
        expected = tuple(lengths.setdefault(axis, n) for axis, n in zip(axes, got, strict=False))
        if len(got) != len(axes) or got != expected or np.isnan(arrays[name]).any():
            raise ModuleFormatError(
                f"Array {name!r} of {source} has shape {got}, which does not fit the others, or holds NaN. "
                "Restore the files."
            )


def _expansion_state(regressor: KernelRegressor | SourceProcess) -> State:
    expansion = regressor.expansion_
    state = {
        "offset": expansion.offset,
        "amplitude": expansion.kernel.amplitude,
        "low": expansion.labels.low,
        "scale": asdict(expansion.labels.scale),
        "best_params": regressor.best_params_,
        "best_score": regressor.best_score_,
    }
    arrays = {
        "rows": expansion.rows,
        "dual": expansion.dual,
        "scales": expansion.kernel.scales,
        "slopes": expansion.kernel.slopes,
    }
    return state, arrays


def _set_expansion(regressor: Any, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    labels = LabelScale(state["low"], TargetScale(**state["scale"]))
    kernel = SourceKernel(state["amplitude"], arrays["scales"], arrays["slopes"])
    regressor.expansion_ = KernelExpansion(arrays["rows"], arrays["dual"], state["offset"], kernel, labels)
    regressor.best_params_, regressor.best_score_ = dict(state["best_params"]), state["best_score"]
    regressor.n_features_in_ = arrays["rows"].shape[1]


def _kernel_state(regressor: KernelRegressor) -> State:
    state, arrays = _expansion_state(regressor)
    return {**state, "method": regressor.method}, arrays


def _kernel_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> KernelRegressor:
    regressor = KernelRegressor(state["method"])
    _set_expansion(regressor, state, arrays)
    return regressor


def _process_state(regressor: SourceProcess) -> State:
    state, arrays = _expansion_state(regressor)
    own = {"row_weights": regressor.row_weights_, "source_weights": regressor.source_weights_}
    return {**state, "noise": regressor.noise_, "svr": regressor.svr}, {**arrays, **own}


def _process_from_state(state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> SourceProcess:
    regressor = SourceProcess(svr=state["svr"])
    _set_expansion(regressor, state, arrays)
    regressor.noise_, regressor.row_weights_ = state["noise"], arrays["row_weights"]
    regressor.source_weights_ = arrays["source_weights"]
    return regressor


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
    "process": (SourceProcess, _process_state, _process_from_state),
    "ridge": (RidgeCV, _ridge_state, _ridge_from_state),
}
