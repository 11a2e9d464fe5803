"""What displays share in checking: choices, labels with their predictions, and how far these are apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidTargetsError,
    UnknownNameError,
    UnusableRowsWarning,
    suggest,
)


class Pairs(NamedTuple):
    """Labels and predictions of the rows that were predicted, all finite."""

    y: np.ndarray
    """Labels, shape (n_kept,)."""
    y_pred: np.ndarray
    """Predictions, shape (n_kept,), in the unit of the labels."""
    rows: np.ndarray
    """Which of the given rows these are, shape (n_kept,)."""


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a value that is none of these."""
    if value not in choices:
        raise InvalidParameterError(f"'{name}' must be one of {tuple(choices)}. Got {value!r}.")


def check_name(name: str, valid: Iterable[str], *, what: str) -> None:
    """Refuse a name that does not exist, and say which one may have been meant."""
    names = list(valid)
    if name not in names:
        raise UnknownNameError(suggest(str(name), map(str, names), what=what))


def predictions_of(estimator: Any, X: Any) -> Any:
    """Return what a fitted estimator predicts."""
    if isinstance(estimator, type) or not hasattr(estimator, "predict"):
        raise InvalidParameterError(
            f"'estimator' must be a fitted regressor. Got {estimator!r}, which cannot predict."
        )
    check_is_fitted(estimator)
    return estimator.predict(X)


def pairs(y: Any, y_pred: Any) -> Pairs:
    """Return labels and predictions as floats; rows without a prediction are left out with a warning."""
    if isinstance(y, pd.Series) and isinstance(y_pred, pd.Series) and not y.index.equals(y_pred.index):
        raise InvalidParameterError(
            "'y' and 'y_pred' must have their rows in the same order. Their indices differ; "
            "give y_pred.loc[y.index] if these name rows."
        )
    labels, predicted = _floats("y", y), _floats("y_pred", y_pred)
    if len(labels) != len(predicted):
        raise InvalidParameterError(
            f"'y' and 'y_pred' must have the same length. Got {len(labels)} and {len(predicted)}."
        )
    if not np.isfinite(labels).all():
        row = int(np.flatnonzero(~np.isfinite(labels))[0])
        raise InvalidTargetsError(f"'y' must hold finite numbers. y[{row}] is {labels[row]}; leave it out.")
    kept = _predicted(predicted)
    return Pairs(labels[kept], predicted[kept], kept)


def _floats(name: str, values: Any) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(f"'{name}' must hold numbers. {error}.") from error
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1:
        raise InvalidParameterError(
            f"'{name}' must be of shape (n_rows,). Got {numbers.shape}; of several properties, "
            "show one at a time with from_predictions."
        )
    return numbers


def _predicted(y_pred: np.ndarray) -> np.ndarray:
    """Return the rows that have a prediction."""
    kept = np.flatnonzero(np.isfinite(y_pred))
    if not len(kept):
        raise InvalidParameterError(f"'y_pred' must hold finite numbers. None of its {len(y_pred)} is one.")
    n_lost = len(y_pred) - len(kept)
    if n_lost:
        first = int(np.flatnonzero(~np.isfinite(y_pred))[0])
        warnings.warn(
            f"{n_lost} of {len(y_pred)} predictions are not finite and are left out; the first is "
            f"y_pred[{first}].",
            UnusableRowsWarning,
            stacklevel=4,
        )
    return kept


def errors_of(y: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return mean absolute and root mean squared error, R2 (NaN if the labels are all equal) and the rows."""
    squares = (y_pred - y) ** 2
    variance = np.var(y) if len(y) else 0.0
    return {
        "mae": float(np.abs(y_pred - y).mean()),
        "rmse": float(np.sqrt(squares.mean())),
        "r2": float(1 - squares.mean() / variance) if variance > 0 else float("nan"),
        "n": len(y),
    }
