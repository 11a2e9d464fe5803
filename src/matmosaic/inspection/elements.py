"""Which elements a model predicts badly, on a periodic table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from matmosaic.exceptions import InvalidParameterError
from matmosaic.inspection._checks import pairs, predictions_of
from matmosaic.inspection._drawing import colour_map, ink, new_axes, number, text_on, with_unit
from matmosaic.structures import as_structures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure, SubFigure

# Drawn here, as pymatviz (0.18), which draws such tables too, needs plotly, widgets and IPython.
_N_ELEMENTS = 118
# Where lanthanides and actinides stand: below the others, with a gap.
_F_BLOCK_ROWS = {6: 8.3, 7: 9.3}
_CELL = 0.94
_WIDTH = 18.2  # of the table, in cells


class ErrorByElementDisplay:
    """Which elements a model predicts badly, on a periodic table.

    The error of an element is the mean absolute error of the structures that hold it, each counted once
    however much of the element it holds. A structure counts for each of its elements, so an element may look
    bad for its company; with few structures the number says little.

    Make one with `from_estimator` or `from_predictions`; `plot` draws it, `summary` returns its numbers.
    matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    errors : DataFrame of shape (n_elements, 3)
        Indexed by the symbol of the element: ``mae`` and ``bias`` (mean of prediction minus label), in
        `unit`, and ``n``, the number of structures with the element.
    unit : str, optional
        Unit of the errors.

    Attributes
    ----------
    errors : DataFrame of shape (n_elements, 3)
        As given.
    unit : str or None
        As given.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    InvalidParameterError
        If there are no errors, or an element does not exist.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys("vacancy_energy", return_X_y=True)  # eV
    >>> display = ErrorByElementDisplay.from_predictions(X, y, y + 0.1, unit="eV")
    >>> display.summary()["mae"].round(3).to_dict()
    {'Ni': 0.1, 'Cu': 0.1, 'Pd': 0.1, 'Ag': 0.1, 'Pt': 0.1, 'Au': 0.1}
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, errors: pd.DataFrame, *, unit: str | None = None) -> None:
        if not isinstance(errors, pd.DataFrame) or errors.empty or not {"mae", "n"} <= set(errors):
            raise InvalidParameterError(
                "'errors' must be a DataFrame with a row per element and the columns 'mae' and 'n'. Got "
                f"{list(errors) if isinstance(errors, pd.DataFrame) else type(errors).__name__}."
            )
        unknown = [symbol for symbol in errors.index if symbol not in _places()]
        if unknown:
            raise InvalidParameterError(
                f"'errors' must be indexed by symbols of elements. Got {unknown[0]!r}."
            )
        self.errors = errors
        self.unit = unit

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, unit: str | None = None) -> Self:
        """Predict and show.

        Parameters
        ----------
        estimator : regressor
            Fitted; it predicts one property from structures.
        X : structures, length n_structures
            As estimators take them, but no GraphTable; best rows that the estimator was not fitted to.
        y : array-like of shape (n_structures,)
            Labels, in `unit`.
        unit : str, optional
            Unit of the labels.

        Returns
        -------
        ErrorByElementDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidParameterError
            If it cannot predict, or lengths differ.
        """
        return cls.from_predictions(X, y, predictions_of(estimator, X), unit=unit)

    @classmethod
    def from_predictions(cls, X: Any, y: Any, y_pred: Any, *, unit: str | None = None) -> Self:
        """Show predictions that were made before, such as those of ``cross_val_predict``.

        Parameters
        ----------
        X : structures, length n_structures
            As estimators take them, but no GraphTable.
        y, y_pred : array-like of shape (n_structures,)
            Labels and predictions, in `unit`. Predictions that are not finite are counted and left out.
        unit : str, optional
            Unit of labels and predictions.

        Returns
        -------
        ErrorByElementDisplay

        Raises
        ------
        InvalidParameterError
            If lengths differ or no prediction is finite.
        InvalidTargetsError
            If a label is not finite.
        StructureTypeError
            If rows are no structures.

        Warns
        -----
        UnusableRowsWarning
            If some predictions are not finite.
        """
        kept = pairs(y, y_pred)
        structures = as_structures(X)
        if len(structures) != len(y):
            raise InvalidParameterError(
                f"'X' and 'y' must have the same length. Got {len(structures)} and {len(y)}."
            )
        rows = [
            {"element": element.symbol, "number": element.Z, "error": difference}
            for row, difference in zip(kept.rows, kept.y_pred - kept.y, strict=True)
            for element in structures[row].composition.elements
        ]
        return cls(_by_element(pd.DataFrame(rows)), unit=unit)

    def summary(self) -> pd.DataFrame:
        """Return the errors.

        Returns
        -------
        DataFrame of shape (n_elements, 3)
            Indexed by element, in the order of atomic numbers: ``mae``, ``bias`` (mean of prediction minus
            label), both in `unit`, and ``n``, the number of structures with the element.
        """
        return self.errors.copy()

    def plot(self, ax: Axes | None = None, *, min_count: int = 1, vmax: float | None = None) -> Self:
        """Draw the periodic table: in each cell the symbol, the mean absolute error and how many structures.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; best 10 inches wide or more. By default on a new figure.
        min_count : int, default=1
            Elements of fewer structures are hatched, like those without data.
        vmax : float, optional
            Error of the strongest colour, in `unit`; by default the largest.

        Returns
        -------
        ErrorByElementDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        InvalidParameterError
            If no element has `min_count` structures.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        shown = self.errors[self.errors["n"] >= min_count]
        if shown.empty:
            most = int(self.errors["n"].max())
            raise InvalidParameterError(
                f"'min_count' must be at most {most}, or no element is left. Got {min_count}."
            )
        self.ax_ = new_axes((11.5, 6.4)) if ax is None else ax
        norm = _norm(shown["mae"].max() if vmax is None else vmax)
        for symbol, place in _places().items():
            if symbol in shown.index:
                self._draw_cell(symbol, place, norm)
            else:
                self._draw_empty_cell(symbol, place)
        self.ax_.set(xlim=(0.4, 0.4 + _WIDTH), ylim=(9.9, 0.4), aspect="equal")
        self.ax_.axis("off")
        self._draw_scale(norm, min_count)
        self.figure_ = self.ax_.figure
        return self

    def _draw_cell(self, symbol: str, place: tuple[float, float], norm: Normalize) -> None:
        errors = self.errors.loc[symbol]
        colour = colour_map(self.ax_)(norm(errors["mae"]))
        self._box(place, facecolor=colour, edgecolor="none")
        self._write(place, -0.22, symbol, 0.27, color=text_on(colour), fontweight="bold")
        self._write(place, 0.08, number(errors["mae"]), 0.2, color=text_on(colour))
        self._write(place, 0.33, f"n {int(errors['n']):,}", 0.17, color=text_on(colour))

    def _draw_empty_cell(self, symbol: str, place: tuple[float, float]) -> None:
        self._hatch(place)
        halo = {"facecolor": self.ax_.figure.get_facecolor(), "edgecolor": "none", "pad": 0.8}
        self._write(place, 0, symbol, 0.2, color=ink(self.ax_), alpha=0.7, bbox=halo)

    def _hatch(self, place: tuple[float, float]) -> None:
        self._box(place, facecolor="none", edgecolor=(ink(self.ax_), 0.25), hatch="////", linewidth=0.5)

    def _box(self, place: tuple[float, float], **style: Any) -> None:
        from matplotlib.patches import Rectangle

        x, y = place
        self.ax_.add_patch(Rectangle((x - _CELL / 2, y - _CELL / 2), _CELL, _CELL, **style))

    def _write(self, place: tuple[float, float], down: float, text: str, size: float, **style: Any) -> None:
        """Write into a cell, in letters of a size relative to the cell."""
        x, y = place
        self.ax_.text(x, y + down, text, fontsize=size * self._points(), ha="center", va="center", **style)

    def _points(self) -> float:
        """Return the width of a cell in points."""
        return float(self.ax_.get_window_extent().width / self.ax_.figure.dpi * 72 / _WIDTH)

    def _draw_scale(self, norm: Normalize, min_count: int) -> None:
        """Draw what colours and hatching mean into the gap above the transition metals."""
        from matplotlib.cm import ScalarMappable

        scale = self.ax_.inset_axes((3.4, 2.1, 8.2, 0.32), transform=self.ax_.transData)
        label = with_unit("Mean absolute error", self.unit)
        mappable = ScalarMappable(norm, colour_map(self.ax_))
        bar = self.ax_.figure.colorbar(mappable, cax=scale, orientation="horizontal")
        size = 0.23 * self._points()
        bar.set_label(label, fontsize=size)
        bar.ax.xaxis.set_ticks_position("top")
        bar.ax.tick_params(labelsize=size)
        few = "no structures" if min_count <= 1 else f"fewer than {min_count} structures"
        self._hatch((3.9, 0.95))
        style: dict[str, Any] = {"color": ink(self.ax_), "fontsize": size, "va": "center"}
        self.ax_.text(4.6, 0.95, f"{few};  n: structures with the element", **style)


def _by_element(rows: pd.DataFrame) -> pd.DataFrame:
    groups = rows.assign(absolute=rows["error"].abs()).groupby(["number", "element"])
    table = groups.agg(mae=("absolute", "mean"), bias=("error", "mean"), n=("error", "size"))
    return table.droplevel("number")


def _norm(largest: float) -> Normalize:
    from matplotlib.colors import Normalize

    return Normalize(0, largest or 1.0)


def _places() -> dict[str, tuple[float, float]]:
    """Return column and row of every element's cell."""
    from pymatgen.core import Element

    return {element.symbol: _place(element) for element in map(Element.from_Z, range(1, _N_ELEMENTS + 1))}


def _place(element: Any) -> tuple[float, float]:
    for first, row in ((57, 6), (89, 7)):
        if first <= element.Z < first + 15:
            return 3.0 + element.Z - first, _F_BLOCK_ROWS[row]
    return float(element.group), float(element.row)
