"""What a fitted network is compared with: the median, the modules' own heads, ridge on frozen features.

All are linear in frozen outputs, so each is a few arrays: cheap to fit, to save and to fall back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matmosaic.learning.columns import column_scale

__all__ = ["LinearBaseline", "fit_baselines"]

RIDGE_ALPHAS = np.logspace(-4, 6, 11)


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """A prediction that is linear in the frozen outputs of modules.

    Parameters
    ----------
    name : str
        Name in reports.
    feature_coef : ndarray of shape (n_features,)
        Coefficients of the features, in the unit of the labels.
    prediction_coef : ndarray of shape (n_modules,)
        Coefficients of the modules' own predictions, in the unit of the labels per unit of the module.
    intercept : float
        In the unit of the labels.
    """

    name: str
    feature_coef: np.ndarray
    prediction_coef: np.ndarray
    intercept: float

    def predict(self, features: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return predictions in the unit of the labels.

        Parameters
        ----------
        features : ndarray of shape (n_rows, n_features)
            Frozen features of all modules, side by side.
        predictions : ndarray of shape (n_rows, n_modules)
            Predictions of the modules' own heads; anything, such as NaN, for modules that are not used.

        Returns
        -------
        ndarray of float64, shape (n_rows,)
            Predictions.
        """
        return (
            self.intercept
            + _product(features, self.feature_coef)
            + _product(predictions, self.prediction_coef)
        )


def fit_baselines(
    features: np.ndarray,
    predictions: np.ndarray,
    y: np.ndarray,
    *,
    module_names: Sequence[str],
    weight: np.ndarray | None = None,
) -> list[LinearBaseline]:
    """Fit the median, every module's own head, and ridge regression on frozen features.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
        Frozen features of all modules, side by side, finite. There may be more features than rows.
    predictions : ndarray of shape (n_rows, n_modules)
        Predictions of the modules' own heads, each in its own unit. A column with NaN, that of a module
        without a head, is not used.
    y : ndarray of shape (n_rows,)
        Labels of the training rows, in any unit.
    module_names : sequence of str, length n_modules
        Names of the modules.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows, >= 0.

    Returns
    -------
    list of LinearBaseline
        ``"median"``; ``"zero-shot NAME"`` for each module with a head, its predictions shifted and scaled
        to the labels, as units differ; ``"ridge"``, on standardised features, with the penalty that has
        the least leave-one-out error.
    """
    rows = slice(None) if weight is None else np.flatnonzero(weight)
    features, predictions, y = (
        np.asarray(values, dtype=float)[rows] for values in (features, predictions, y)
    )
    weight = None if weight is None else np.asarray(weight, dtype=float)[rows]
    no_features, no_modules = np.zeros(features.shape[1]), np.zeros(predictions.shape[1])
    fitted = [LinearBaseline("median", no_features, no_modules, _median(y, weight))]
    for module in np.flatnonzero(np.isfinite(predictions).all(axis=0)).tolist():
        slope, intercept = _rescaling(predictions[:, module], y, weight)
        only_this = np.where(np.arange(len(no_modules)) == module, slope, 0.0)
        fitted.append(LinearBaseline(f"zero-shot {module_names[module]}", no_features, only_this, intercept))
    coef, intercept = _ridge(features, y, weight)
    return [*fitted, LinearBaseline("ridge", coef, no_modules, intercept)]


def _product(values: np.ndarray, coef: np.ndarray) -> np.ndarray:
    """Return ``values @ coef``, where a coefficient of 0 leaves a column unread."""
    used = np.flatnonzero(coef)
    return np.asarray(values, dtype=float)[:, used] @ coef[used]


def _median(y: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the median as if each label were repeated as often as its weight says."""
    if weight is None:
        return float(np.median(y))
    order = np.argsort(y)
    passed = np.cumsum(weight[order])
    sides = [np.searchsorted(passed, passed[-1] / 2, side=side) for side in ("left", "right")]
    return float(y[order][sides].mean())


def _rescaling(values: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line; a slope of 0 where values are constant."""
    mean, std = column_scale(values[:, None], weight)
    centre = np.average(y, weights=weight)
    slope = np.average((values - mean) / std * (y - centre), weights=weight) / std[0]
    return float(slope), float(centre - slope * mean[0])


def _ridge(features: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Return coefficients and intercept for features as they are, of a fit on standardised ones."""
    from sklearn.linear_model import RidgeCV

    mean, std = column_scale(features, weight)
    ridge = RidgeCV(RIDGE_ALPHAS).fit((features - mean) / std, y, sample_weight=weight)
    coef = ridge.coef_ / std
    return coef, float(ridge.intercept_ - mean @ coef)
