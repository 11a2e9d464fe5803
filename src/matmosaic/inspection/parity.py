"""Predictions against labels, with the errors that sum them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from matmosaic.exceptions import InvalidParameterError
from matmosaic.inspection._checks import check_choice, errors_of, pairs, predictions_of
from matmosaic.inspection._drawing import LINES, MARKERS, colour_map, ink, new_axes, number, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Kind = Literal["auto", "scatter", "density"]

# More points than these hide each other.
_MANY = 2000
_N_BINS = 30
_ALL = "all"


class ParityDisplay:
    """Predictions against labels, with the errors that sum them up.

    Make one with `from_estimator` or `from_predictions`; `plot` draws it, `summary` returns its numbers.
    matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels, in `unit`.
    y_pred : array-like of shape (n_rows,)
        Predictions of the same rows, in `unit`. Those that are not finite are counted and left out.
    groups : array-like of shape (n_rows,), optional
        What each row belongs to, such as ``"train"`` and ``"test"``, or the number of its fold.
    target : str, optional
        Name of the property. By default that of `y`, if it is a Series with a name.
    unit : str, optional
        Unit of labels and predictions, for what is drawn.

    Attributes
    ----------
    y, y_pred : ndarray of shape (n_kept,)
        Labels and predictions, in `unit`, of the rows that have a prediction.
    groups : ndarray of shape (n_kept,) or None
        Group of each of these rows, as text.
    target, unit : str or None
        As given.
    ax_ : matplotlib Axes
        What `plot` drew on.
    marginals_ : list of matplotlib Axes
        Histograms above (labels) and beside it (predictions); empty without them.
    figure_ : matplotlib Figure
        The figure that holds all.

    Raises
    ------
    InvalidParameterError
        If lengths differ, values are no numbers or of several properties, or no prediction is finite.
    InvalidTargetsError
        If a label is not finite.

    Warns
    -----
    UnusableRowsWarning
        If some predictions are not finite.

    Examples
    --------
    >>> display = ParityDisplay.from_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.5], unit="eV")
    >>> display.summary().round(3).to_dict("index")
    {'all': {'mae': 0.333, 'rmse': 0.408, 'r2': 0.893, 'n': 3}}
    """

    groups: np.ndarray | None
    ax_: Axes
    marginals_: list[Axes]
    figure_: Figure | SubFigure

    def __init__(
        self,
        y: Any,
        y_pred: Any,
        *,
        groups: Any = None,
        target: str | None = None,
        unit: str | None = None,
    ) -> None:
        self.y, self.y_pred, rows = pairs(y, y_pred)
        self.groups = None if groups is None else _groups(groups, len(y))[rows]
        self.target = target or _name(y)
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        target: str | None = None,
        unit: str | None = None,
    ) -> Self:
        """Predict and show.

        Parameters
        ----------
        estimator : regressor
            Fitted; any scikit-learn regressor of one property.
        X : structures or features, length n_rows
            Anything that the estimator predicts; best rows that it was not fitted to.
        y : array-like of shape (n_rows,)
            Labels, in `unit`.
        groups, target, unit : optional
            As for the class.

        Returns
        -------
        ParityDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidParameterError
            If it cannot predict, or as for the class.
        """
        return cls.from_predictions(y, predictions_of(estimator, X), groups=groups, target=target, unit=unit)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        y_pred: Any,
        *,
        groups: Any = None,
        target: str | None = None,
        unit: str | None = None,
    ) -> Self:
        """Show predictions that were made before, such as those of ``cross_val_predict``.

        Parameters
        ----------
        y, y_pred : array-like of shape (n_rows,)
            Labels and predictions, in `unit`.
        groups, target, unit : optional
            As for the class.

        Returns
        -------
        ParityDisplay
        """
        return cls(y, y_pred, groups=groups, target=target, unit=unit)

    def summary(self) -> pd.DataFrame:
        """Return the errors of each group and of all rows.

        Returns
        -------
        DataFrame
            Indexed by group, ``"all"`` last: ``mae`` and ``rmse`` in `unit`, ``r2`` (coefficient of
            determination, NaN where all labels are equal) and ``n``, the number of rows.
        """
        rows = {name: errors_of(self.y[mask], self.y_pred[mask]) for name, mask in self._parts()}
        return pd.DataFrame.from_dict({**rows, _ALL: errors_of(self.y, self.y_pred)}, orient="index")

    def plot(self, ax: Axes | None = None, *, kind: Kind = "auto", marginals: bool = True) -> Self:
        """Draw predictions against labels, the line of equality, and the errors.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure.
        kind : {"auto", "scatter", "density"}, default="auto"
            ``"scatter"`` draws a point per row, in each group another marker. ``"density"`` counts rows in
            hexagons. ``"auto"`` counts if there are more than 2,000 rows and no groups.
        marginals : bool, default=True
            Whether to draw the distribution of labels above and that of predictions beside the points.

        Returns
        -------
        ParityDisplay
            Itself, with `ax_`, `marginals_` and `figure_`.

        Raises
        ------
        InvalidParameterError
            If `kind` is none of these.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        check_choice("kind", kind, ("auto", "scatter", "density"))
        dense = kind == "density" or (kind == "auto" and self.groups is None and len(self.y) > _MANY)
        self.ax_ = new_axes((6.0, 5.8)) if ax is None else ax
        limits = _limits(self.y, self.y_pred)
        self.ax_.plot(limits, limits, color=ink(self.ax_), linestyle="--", linewidth=1, zorder=1.5)
        self.ax_.set(xlim=limits, ylim=limits, xlabel=self._label("label"), ylabel=self._label("prediction"))
        self.ax_.set_aspect("equal")
        self.marginals_ = self._draw_marginals(limits) if marginals else []
        if dense:
            self._draw_density(limits)
        else:
            self._draw_points()
        self.figure_ = self.ax_.figure
        return self

    def _parts(self) -> list[tuple[str, np.ndarray]]:
        """Return the groups, in the order in which they appear, with the rows of each."""
        if self.groups is None:
            return []
        return [(name, self.groups == name) for name in dict.fromkeys(self.groups.tolist())]

    def _label(self, what: str) -> str:
        words = f"{self.target}, {what}" if self.target else what.capitalize()
        return with_unit(words, self.unit)

    def _draw_points(self) -> None:
        everyone = np.ones(len(self.y), dtype=bool)
        errors = self.summary()
        for place, (name, mask) in enumerate(self._parts() or [(_ALL, everyone)]):
            self.ax_.scatter(
                self.y[mask],
                self.y_pred[mask],
                s=24,
                marker=MARKERS[place % len(MARKERS)],
                facecolors=(f"C{place}", 0.35),
                edgecolors=f"C{place}",
                linewidths=0.8,
                label=f"{name}: {self._words(errors.loc[name], ', ')}",
                rasterized=len(self.y) > _MANY,
            )
        if self.groups is None:
            self._write_errors(errors.loc[_ALL])
        else:
            self.ax_.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, frameon=False)

    def _draw_density(self, limits: tuple[float, float]) -> None:
        hexagons = self.ax_.hexbin(
            self.y,
            self.y_pred,
            gridsize=50,
            extent=(*limits, *limits),
            mincnt=1,
            bins="log",
            linewidths=0.2,
            cmap=colour_map(self.ax_),
        )
        below: dict[str, Any] = {"orientation": "horizontal", "shrink": 0.7, "label": "Rows in a hexagon"}
        self.ax_.figure.colorbar(hexagons, ax=self.ax_, **below)
        self._write_errors(self.summary().loc[_ALL])

    def _write_errors(self, errors: pd.Series) -> None:
        box = {"facecolor": self.ax_.get_facecolor(), "edgecolor": "none", "alpha": 0.8, "pad": 3}
        place: dict[str, Any] = {
            "transform": self.ax_.transAxes,
            "ha": "left",
            "va": "top",
            "bbox": box,
            "zorder": 4,
        }
        self.ax_.text(0.03, 0.97, self._words(errors, "\n"), **place)

    def _words(self, errors: pd.Series, between: str) -> str:
        unit = f" {self.unit}" if self.unit else ""
        r2 = "undefined" if np.isnan(errors["r2"]) else f"{errors['r2']:.3f}"
        parts = (
            f"MAE {number(errors['mae'])}{unit}",
            f"RMSE {number(errors['rmse'])}{unit}",
            f"R² {r2}",
            f"{int(errors['n']):,} rows",
        )
        return between.join(parts)

    def _draw_marginals(self, limits: tuple[float, float]) -> list[Axes]:
        above = self.ax_.inset_axes((0, 1.02, 1, 0.16))
        beside = self.ax_.inset_axes((1.02, 0, 0.16, 1))
        above.set_xlim(limits)
        beside.set_ylim(limits)
        for axes, values, way in ((above, self.y, "vertical"), (beside, self.y_pred, "horizontal")):
            self._draw_histogram(axes, values, np.linspace(*limits, _N_BINS + 1).tolist(), way)
            axes.axis("off")
        return [above, beside]

    def _draw_histogram(self, axes: Axes, values: np.ndarray, bins: list[float], way: Any) -> None:
        if self.groups is None:
            axes.hist(values, bins=bins, orientation=way, color=("C0", 0.45))
            return
        for place, (_, mask) in enumerate(self._parts()):
            style: dict[str, Any] = {"color": f"C{place}", "linestyle": LINES[place % len(LINES)]}
            axes.hist(values[mask], bins=bins, orientation=way, histtype="step", density=True, **style)


def _groups(groups: Any, n_rows: int) -> np.ndarray:
    names = np.array([str(name) for name in groups], dtype=object)
    if len(names) != n_rows:
        raise InvalidParameterError(f"'groups' must hold one value per row, {n_rows}. Got {len(names)}.")
    return names


def _name(y: Any) -> str | None:
    name = getattr(y, "name", None)
    return None if name is None else str(name)


def _limits(*values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return where an axis begins and ends that shows all values with a margin."""
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    margin = 0.04 * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - margin, high + margin
