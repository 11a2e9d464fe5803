"""How modules share in a prediction: as bars with their spread, or as a heat map over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from matmosaic.exceptions import DataFileError, InvalidParameterError, UnknownNameError, suggest
from matmosaic.inspection._checks import check_choice
from matmosaic.inspection._drawing import colour_map, ink, new_axes, slant_names, text_on
from matmosaic.inspection._results import Results, read_results, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

Kind = Literal["auto", "bar", "heatmap"]
Order = Literal["score", "name"]

# Weights of saved results may be rounded.
_SUM_TOLERANCE = 0.01


class ModuleWeightsDisplay:
    """What the displays of module weights have in common; a subclass says whose weights it shows."""

    quantity: ClassVar[str]
    """What a weight is called, in the singular, such as "gate score"."""
    attribute: ClassVar[str]
    """Attribute of a fitted estimator that holds the weights."""
    estimator: ClassVar[str]
    """Class of that estimator."""
    column: ClassVar[str]
    """Column of saved results with dicts from module to weight; the parameter is its last word."""

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, weights: pd.DataFrame) -> None:
        self._weights = self._checked(weights)

    @classmethod
    def from_estimator(cls, estimator: Any, *, names: Sequence[str] | None = None) -> Self:
        """Show the modules of one fitted estimator, or of several with their spread.

        Parameters
        ----------
        estimator : estimator of modules, Pipeline that ends in one, or sequence of these
            Fitted, such as ``cross_validate(..., return_estimator=True)["estimator"]``. Where their modules
            differ, one that was not offered counts as 0.
        names : sequence of str, optional
            Name of each estimator, one per row of the display. By default they are numbered from 0.

        Returns
        -------
        Self

        Raises
        ------
        InvalidParameterError
            If something else or nothing was given, an estimator is not fitted, or a name is missing.
        """
        several = list(estimator) if isinstance(estimator, Sequence | np.ndarray | pd.Series) else [estimator]
        if not several:
            raise InvalidParameterError(
                f"'estimator' must hold at least one fitted {cls.estimator}. Got none."
            )
        if names is not None and len(names) != len(several):
            raise InvalidParameterError(
                f"'names' must hold one name per estimator, {len(several)}. Got {len(names)}: {names!r}."
            )
        index = pd.Index(range(len(several)) if names is None else names, name="fit")
        rows = [cls._weights_of(member, place) for place, member in enumerate(several)]
        return cls(pd.DataFrame(rows, index=index).fillna(0.0))

    @classmethod
    def from_results(cls, results: Results, *, method: str | None = None) -> Self:
        """Show the modules of saved results, one row per task.

        Parameters
        ----------
        results : DataFrame, path, document or sequence of these
            One row per fit with the columns ``task``, ``seed``, ``method`` and the weights, a dict per row
            from module to weight: as a table, as a file of JSON lines, or as ``matmosaic evaluate --json``
            printed it. The mean over the seeds of a task is shown; rows without weights, as other
            methods leave them, are passed over.
        method : str, optional
            Keep the rows of this method alone. Needed where several have weights.

        Returns
        -------
        Self

        Raises
        ------
        DataFileError
            If the file is missing or malformed, or the results lack a column or any weights.
        UnknownNameError
            If no row with weights is of that method.
        InvalidParameterError
            If several methods have weights and none was chosen, or a task has a seed twice.
        """
        return cls(cls._mean_by_task(cls._rows_of_one_method(read_results(results), method)))

    def summary(self) -> pd.DataFrame:
        """Return the spread of each module's weight over the rows.

        Returns
        -------
        DataFrame of shape (n_modules, 5)
            Indexed by module, without unit: ``mean``, ``std`` (sample standard deviation, NaN of one row),
            ``min``, ``max``, and ``active_share``, the share of rows in which the module is active.
        """
        numbers = self._weights.agg(["mean", "std", "min", "max"]).T
        return numbers.assign(active_share=(self._weights > 0).mean()).rename_axis("module")

    def plot(self, ax: Axes | None = None, *, kind: Kind = "auto", order: Order = "score") -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure, large enough for every name.
        kind : {"auto", "bar", "heatmap"}, default="auto"
            ``"bar"`` shows the mean of each module, its standard deviation and every row as a dot, beside the
            even share, 1 / N, where N is the number of active modules in the row that has most of them.
            ``"heatmap"`` shows every weight as a coloured cell with its number. ``"auto"`` is a heat map of
            several tasks, bars otherwise.
        order : {"score", "name"}, default="score"
            Modules by descending mean weight, or by name.

        Returns
        -------
        Self
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        InvalidParameterError
            If `kind` or `order` is none of these.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        check_choice("kind", kind, ("auto", "bar", "heatmap"))
        check_choice("order", order, ("score", "name"))
        weights = _ordered(self._weights, order)
        heatmap = kind == "heatmap" or (kind == "auto" and _row_kind(weights) == "task" and len(weights) > 1)
        size_of, draw = (_heatmap_size, _draw_heatmap) if heatmap else (_bar_size, _draw_bars)
        self.ax_ = new_axes(size_of(weights)) if ax is None else ax
        draw(self.ax_, weights, self.quantity.capitalize())
        self.figure_ = self.ax_.figure
        return self

    # --- where weights come from ---------------------------------------------------------------------

    @classmethod
    def _checked(cls, weights: Any) -> pd.DataFrame:
        """Return the weights as floats, or say which row cannot be such weights."""
        name = cls.column.rpartition("_")[2]
        expected = (
            f"'{name}' must be a DataFrame of {cls.quantity}s, one row per fit or task, one column per module"
        )
        if not isinstance(weights, pd.DataFrame):
            raise InvalidParameterError(f"{expected}. Got {type(weights).__name__}.")
        if weights.empty or not weights.columns.is_unique:
            raise InvalidParameterError(f"{expected}, each once. Got the columns {list(weights.columns)}.")
        try:
            numbers = weights.astype(float)
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{expected}. Some of them are no numbers: {error}.") from error
        _check_rows(name, numbers)
        return numbers

    @classmethod
    def _weights_of(cls, estimator: Any, place: int) -> dict[str, float]:
        """Return module -> weight of one estimator."""
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        if not (hasattr(last, cls.attribute) and hasattr(last, "module_names_")):
            raise InvalidParameterError(
                f"'estimator' must be a fitted {cls.estimator}, a Pipeline that ends in one, or a sequence "
                f"of these. Got {type(last).__name__} at place {place}, which has no '{cls.attribute}'; "
                'call fit first. Of cross_validate(..., return_estimator=True), give the entry "estimator".'
            )
        return dict(zip(last.module_names_, map(float, getattr(last, cls.attribute)), strict=True))

    @classmethod
    def _rows_of_one_method(cls, results: pd.DataFrame, method: str | None) -> pd.DataFrame:
        """Return the results with weights, of one method."""
        require(results, "task", "seed", "method", cls.column)
        rows = results[[isinstance(weights, dict) for weights in results[cls.column]]]
        if rows.empty:
            raise DataFileError(
                f"Results hold no '{cls.column}'; expected dicts from module to {cls.quantity}."
            )
        methods = list(dict.fromkeys(rows["method"]))
        if method is None and len(methods) > 1:
            raise InvalidParameterError(
                f"'method' must choose one of {methods}, which all have {cls.quantity}s."
            )
        if method is not None and method not in methods:
            raise UnknownNameError(suggest(method, methods, what=f"method with {cls.quantity}s"))
        return rows if method is None else rows[rows["method"] == method]

    @classmethod
    def _mean_by_task(cls, rows: pd.DataFrame) -> pd.DataFrame:
        index = pd.MultiIndex.from_frame(rows[["task", "seed"]])
        if not index.is_unique:
            doubled = index[index.duplicated()].tolist()[0]
            raise InvalidParameterError(
                f"'results' must hold each task and seed once per method. {doubled!r} comes twice; "
                "select the rows that belong together."
            )
        weights = cls._checked(pd.DataFrame(list(rows[cls.column]), index=index).fillna(0.0))
        return weights.groupby(level="task", sort=False).mean()


def _check_rows(name: str, numbers: pd.DataFrame) -> None:
    sums = numbers.sum(axis=1, skipna=False)
    bad = (numbers < 0).any(axis=1) | ~((sums - 1).abs() <= _SUM_TOLERANCE)
    if bad.any():
        row = numbers.index[bad].tolist()[0]
        raise InvalidParameterError(
            f"'{name}' must be >= 0 and sum to 1 in each row. Row {row!r} does not, it sums to "
            f"{sums[bad].iloc[0]:.3g}; give 0 to an inactive module."
        )


def _row_kind(weights: pd.DataFrame) -> str:
    return str(weights.index.name or "fit")


def _ordered(weights: pd.DataFrame, order: Order) -> pd.DataFrame:
    by_name = weights[sorted(weights.columns, key=str)]
    if order == "name":
        return by_name
    return by_name[by_name.mean().sort_values(ascending=False, kind="stable").index]


# --- drawing -----------------------------------------------------------------------------------------


# Sizes are width and height in inches; the room for the names grows with the longest of them.
def _bar_size(weights: pd.DataFrame) -> tuple[float, float]:
    return 4.6 + 0.07 * _longest_name(weights), 1.6 + 0.3 * weights.shape[1]


def _heatmap_size(weights: pd.DataFrame) -> tuple[float, float]:
    n_rows, n_modules = weights.shape
    return 3.2 + 0.45 * n_modules, 0.8 + 0.06 * _longest_name(weights) + 0.4 * max(n_rows, 3)


def _longest_name(weights: pd.DataFrame) -> int:
    return max(len(str(name)) for name in weights.columns)


def _draw_bars(ax: Axes, weights: pd.DataFrame, quantity: str) -> None:
    n_rows, n_modules = weights.shape
    places = np.arange(n_modules)
    row = _row_kind(weights)
    label = f"mean of {n_rows} {row}s" if n_rows > 1 else f"one {row}"
    ax.barh(places, weights.mean(), height=0.8, color=("C0", 0.45), label=label)
    if n_rows > 1:
        _draw_spread(ax, weights, places)
    n_active = (weights > 0).sum(axis=1).max()
    ax.axvline(1 / n_active, color=ink(ax), linestyle="--", linewidth=1, label=f"even share, 1/{n_active}")
    ax.set_yticks(places, labels=map(str, weights.columns))
    ax.set_ylim(n_modules - 0.5, -0.5)  # the first module is on top
    ax.set_xlim(left=0)
    ax.set(xlabel=quantity, ylabel="Module")
    # Below the label of the x axis (the distance is in font sizes), so that it covers no bar.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=2, frameon=False)


def _draw_spread(ax: Axes, weights: pd.DataFrame, places: np.ndarray) -> None:
    """Draw each row as a dot, at the same height in every bar, and the standard deviation."""
    heights = places + np.linspace(-0.3, 0.3, len(weights))[:, None]
    style: dict[str, Any] = {"s": 14, "color": ink(ax), "alpha": 0.35, "linewidths": 0, "clip_on": False}
    ax.scatter(weights.to_numpy(), heights, label=f"one {_row_kind(weights)}", zorder=2, **style)
    style = {"fmt": "none", "ecolor": ink(ax), "capsize": 4, "elinewidth": 1.2}
    ax.errorbar(weights.mean(), places, xerr=weights.std(), label="standard deviation", zorder=3, **style)


def _draw_heatmap(ax: Axes, weights: pd.DataFrame, quantity: str) -> None:
    image = ax.imshow(weights.to_numpy(), cmap=colour_map(ax), vmin=0, aspect="auto")
    ax.set_xticks(range(weights.shape[1]), labels=map(str, weights.columns))
    slant_names(ax)
    ax.set_yticks(range(weights.shape[0]), labels=map(str, weights.index))
    ax.set(xlabel="Module", ylabel=_row_kind(weights).capitalize())
    _write_numbers(ax, image, weights.to_numpy())
    ax.figure.colorbar(image, ax=ax, label=quantity)


def _write_numbers(ax: Axes, image: AxesImage, values: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if value else "0"  # an inactive module is not one of score 0.00
        colour = text_on(image.to_rgba(value))
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
