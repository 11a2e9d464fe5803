"""Labels: what is accepted, and the scale they are learnt on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matmosaic.exceptions import InvalidTargetsError
from matmosaic.modules.transforms import from_unit, to_unit

# Below this a mean and a standard deviation of the labels say nothing.
MIN_TRAINING_ROWS = 2
ROWS_NAMED = 10
# A spread this much smaller than the mean is none.
ROUNDING = 1e-14


def check_targets(y: Any, n_structures: int, *, name: str = "y", constant: bool = False) -> np.ndarray:
    """Return labels as floats, or say what is wrong with them.

    Parameters
    ----------
    y : array-like of shape (n_structures,) or (n_structures, 1)
        Labels.
    n_structures : int
        Number of structures they belong to.
    name : str, default="y"
        Name of the parameter in messages.
    constant : bool, default=False
        Whether all labels may be equal.

    Returns
    -------
    ndarray of float64, shape (n_structures,)
        The labels.

    Raises
    ------
    InvalidTargetsError
        If labels are no numbers, NaN, infinite, constant, or not one per structure.
    """
    values = as_column(y, name)
    check_length(values, n_structures, name)
    _check_finite(values, name)
    if not constant and len(values) > 1 and np.ptp(values) == 0:
        raise InvalidTargetsError(
            f"'{name}' is constant: all {len(values)} labels are {values[0]:g}. There is nothing to learn; "
            "check that the right column was read."
        )
    return values


def check_sample_weight(sample_weight: Any, n_structures: int) -> np.ndarray | None:
    """Return weights as floats, or say what is wrong with them.

    Parameters
    ----------
    sample_weight : array-like of shape (n_structures,) or None
        Weights of the rows in the loss.
    n_structures : int
        Number of structures they belong to.

    Returns
    -------
    ndarray of float64, shape (n_structures,), or None
        The weights; None if none were given.

    Raises
    ------
    InvalidTargetsError
        If weights are negative, NaN or infinite, all zero, or not one per structure.
    """
    if sample_weight is None:
        return None
    weights = check_targets(sample_weight, n_structures, name="sample_weight", constant=True)
    if (weights < 0).any() or not weights.any():
        raise InvalidTargetsError("'sample_weight' must hold numbers >= 0 that are not all zero.")
    return weights


def as_numbers(y: Any, name: str) -> np.ndarray:
    """Return labels as floats of whatever shape they have, missing ones as NaN."""
    if y is None:
        raise InvalidTargetsError(
            f"This regressor requires {name} to be passed, but the target {name} is None. Give one label per "
            "structure."
        )
    try:
        return np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidTargetsError(f"'{name}' must hold numbers, one per structure. Got: {error}.") from error


def as_column(y: Any, name: str) -> np.ndarray:
    """Return labels (n_rows,) or (n_rows, 1) as floats (n_rows,)."""
    values = as_numbers(y, name)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise InvalidTargetsError(
            f"'{name}' must be one-dimensional, one label per structure. Got shape {values.shape}; "
            "fit one estimator per property, or an MPTRegressor for all of them."
        )
    return values


def check_length(values: np.ndarray, n_structures: int, name: str) -> None:
    """Raise InvalidTargetsError unless there is a label, or a row of labels, for each structure."""
    if len(values) != n_structures:
        raise InvalidTargetsError(
            f"'X' and '{name}' must have the same length. Got {n_structures} structures and "
            f"{len(values)} labels."
        )


def _check_finite(values: np.ndarray, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        named = ", ".join(f"{name}[{row}]={values[row]}" for row in bad[:ROWS_NAMED])
        raise InvalidTargetsError(
            f"'{name}' must be finite. Got {named}{', ...' if len(bad) > ROWS_NAMED else ''} "
            f"({len(bad)} rows). Drop these structures, or fill in their values, before fitting."
        )


@dataclass(frozen=True)
class TargetScale:
    """Scale that labels are learnt on: zero mean and unit standard deviation on the training rows.

    Parameters
    ----------
    mean, std : float
        In the unit of the labels, or of what ``transform`` makes of them.
    transform : str, default="identity"
        Name of the function of the labels that is learnt, one of those that a module's card may name.
    """

    mean: float
    std: float
    transform: str = "identity"

    @classmethod
    def of(cls, y: np.ndarray, weights: np.ndarray | None = None) -> TargetScale:
        """Return the scale of labels (n_rows,), weighted if weights are given."""
        mean = float(np.average(y, weights=weights))
        std = float(np.sqrt(np.average((y - mean) ** 2, weights=weights)))
        # The mean of equal labels is off by rounding, and so is their deviation from it.
        return cls(mean, std if std > ROUNDING * abs(mean) else 1.0)

    @classmethod
    def from_card(cls, transform: Mapping[str, Any]) -> TargetScale:
        """Return the scale that a card's ``target_transform`` describes."""
        return cls(transform["mean"], transform["std"], transform["name"])

    def to_card(self) -> dict[str, Any]:
        """Return the ``target_transform`` of a card."""
        return {"name": self.transform, "mean": self.mean, "std": self.std, "right_skewed": False}

    def scale(self, y: np.ndarray) -> np.ndarray:
        """Map labels to the scale that is learnt; NaN, a missing one, stays NaN."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = from_unit(y, self.to_card())
        if self.transform != "identity" and (bad := np.isnan(y) != ~np.isfinite(scaled)).any():
            raise InvalidTargetsError(
                f"The module's head learnt the {self.transform} of its labels, and {np.asarray(y)[bad][0]:g} "
                "has none. Give labels in the unit of the module, or use head='new'."
            )
        return scaled

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """Map what was predicted back to the unit of the labels."""
        return to_unit(scaled, self.to_card())

    def errors(self, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the absolute errors of scaled predictions in the unit of the labels."""
        if self.transform == "identity":
            return self.std * np.abs(predicted - labels)
        return np.abs(self.unscale(predicted) - self.unscale(labels))
