"""How a mixture of experts weighs its modules: as bars with their spread, or as a heat map over tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from matmosaic.exceptions import DataFileError, InvalidParameterError, UnknownNameError, suggest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

Kind = Literal["auto", "bar", "heatmap"]
Order = Literal["score", "name"]

# Scores of saved results may be rounded.
_SUM_TOLERANCE = 0.01
_BAR_COLOUR = "#a6cbe6"
_COLOUR_MAP = "cividis"
# Luminance at which black and white text have the same contrast, by the definition of WCAG 2.
_LEGIBLE_IN_BLACK = 0.179


class GateScoresDisplay:
    """How a mixture of experts weighs its modules.

    Make one with `from_estimator` or `from_results`; `plot` draws it, `summary` returns its numbers.
    matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    scores : DataFrame of shape (n_rows, n_modules)
        Gate scores, without unit: one row per fit (a seed or a fold) or per task, one column per module,
        0 where a module is inactive. Each row sums to 1. The name of the index says what a row is; without
        one it is a ``fit``.

    Attributes
    ----------
    scores : DataFrame of shape (n_rows, n_modules)
        The scores as floats.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    InvalidParameterError
        If the scores are no table of finite numbers >= 0, or a row does not sum to 1.

    References
    ----------
    Chang, Wang, Ertekin, npj Computational Materials 8, 242 (2022), Fig. 4, doi:10.1038/s41524-022-00929-x.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({"eform": [0.7, 0.8], "gap": [0.3, 0.2]}, index=["seed 0", "seed 1"])
    >>> GateScoresDisplay(scores).summary()[["mean", "min", "max", "active_share"]]
            mean  min  max  active_share
    module
    eform   0.75  0.7  0.8           1.0
    gap     0.25  0.2  0.3           1.0
    """

    scores: pd.DataFrame
    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, scores: pd.DataFrame) -> None:
        self.scores = _checked(scores)

    @classmethod
    def from_estimator(cls, estimator: Any, *, names: Sequence[str] | None = None) -> Self:
        """Show the gate of one fitted estimator, or of several with their spread.

        Parameters
        ----------
        estimator : MoERegressor, Pipeline that ends in one, or sequence of these
            Fitted, such as ``cross_validate(..., return_estimator=True)["estimator"]``. Where their modules
            differ, one that was not offered counts as 0.
        names : sequence of str, optional
            Name of each estimator, as the rows of `scores`. By default they are numbered from 0.

        Returns
        -------
        GateScoresDisplay

        Raises
        ------
        InvalidParameterError
            If something else or nothing was given, an estimator is not fitted, or a name is missing.
        """
        several = list(estimator) if isinstance(estimator, Sequence | np.ndarray | pd.Series) else [estimator]
        if not several:
            raise InvalidParameterError("'estimator' must hold at least one fitted MoERegressor. Got none.")
        if names is not None and len(names) != len(several):
            raise InvalidParameterError(
                f"'names' must hold one name per estimator, {len(several)}. Got {len(names)}: {names!r}."
            )
        index = pd.Index(range(len(several)) if names is None else names, name="fit")
        rows = [_gate_scores(member, place) for place, member in enumerate(several)]
        return cls(pd.DataFrame(rows, index=index).fillna(0.0))

    @classmethod
    def from_results(cls, results: pd.DataFrame | str | Path, *, method: str | None = None) -> Self:
        """Show the gates of saved benchmark results, one row per task.

        Parameters
        ----------
        results : DataFrame or path of a JSON lines file
            One row per fit with the columns ``task``, ``seed``, ``method`` and ``gate_scores``, a dict from
            module to score. The mean over the seeds of a task is shown; rows without gate scores, as other
            methods leave them, are passed over.
        method : str, optional
            Keep the rows of this method alone. Needed where several have gate scores.

        Returns
        -------
        GateScoresDisplay

        Raises
        ------
        DataFileError
            If the file is missing or malformed, or the results lack a column or any gate scores.
        UnknownNameError
            If no row with gate scores is of that method.
        InvalidParameterError
            If several methods have gate scores and none was chosen, or a task has a seed twice.
        """
        table = results if isinstance(results, pd.DataFrame) else _read_json_lines(Path(results))
        return cls(_mean_by_task(_rows_of_one_method(table, method)))

    def summary(self) -> pd.DataFrame:
        """Return the spread of each module's score over the rows.

        Returns
        -------
        DataFrame of shape (n_modules, 5)
            Indexed by module, without unit: ``mean``, ``std`` (sample standard deviation, NaN of one row),
            ``min``, ``max``, and ``active_share``, the share of rows in which the module is active.
        """
        numbers = self.scores.agg(["mean", "std", "min", "max"]).T
        return numbers.assign(active_share=(self.scores > 0).mean()).rename_axis("module")

    def plot(self, *, kind: Kind = "auto", ax: Axes | None = None, order: Order = "score") -> Self:
        """Draw the scores.

        Parameters
        ----------
        kind : {"auto", "bar", "heatmap"}, default="auto"
            ``"bar"`` shows the mean of each module, its standard deviation and every row as a dot, beside the
            even share, 1 / N, where N is the number of active modules in the row that has most of them.
            ``"heatmap"`` shows every score as a coloured cell with its number. ``"auto"`` is a heat map of
            several tasks, bars otherwise.
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure, large enough for every name.
        order : {"score", "name"}, default="score"
            Modules by descending mean score, or by name.

        Returns
        -------
        GateScoresDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        InvalidParameterError
            If `kind` or `order` is none of these.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        _check_choice("kind", kind, ("auto", "bar", "heatmap"))
        _check_choice("order", order, ("score", "name"))
        scores = _ordered(self.scores, order)
        heatmap = kind == "heatmap" or (kind == "auto" and _row_kind(scores) == "task" and len(scores) > 1)
        size_of, draw = (_heatmap_size, _draw_heatmap) if heatmap else (_bar_size, _draw_bars)
        self.ax_ = _new_axes(size_of(scores)) if ax is None else ax
        draw(self.ax_, scores)
        self.figure_ = self.ax_.figure
        return self


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidParameterError(f"'{name}' must be one of {choices}. Got {value!r}.")


def _row_kind(scores: pd.DataFrame) -> str:
    return str(scores.index.name or "fit")


def _ordered(scores: pd.DataFrame, order: Order) -> pd.DataFrame:
    by_name = scores[sorted(scores.columns, key=str)]
    if order == "name":
        return by_name
    return by_name[by_name.mean().sort_values(ascending=False, kind="stable").index]


# --- where scores come from --------------------------------------------------------------------------


def _checked(scores: Any) -> pd.DataFrame:
    """Return the scores as floats, or say which row is none of a gate."""
    expected = "'scores' must be a DataFrame of gate scores, one row per fit or task, one column per module"
    if not isinstance(scores, pd.DataFrame):
        raise InvalidParameterError(f"{expected}. Got {type(scores).__name__}.")
    if scores.empty or not scores.columns.is_unique:
        raise InvalidParameterError(f"{expected}, each once. Got the columns {list(scores.columns)}.")
    try:
        numbers = scores.astype(float)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(f"{expected}. Some of them are no numbers: {error}.") from error
    _check_rows(numbers)
    return numbers


def _check_rows(numbers: pd.DataFrame) -> None:
    sums = numbers.sum(axis=1, skipna=False)
    bad = (numbers < 0).any(axis=1) | ~((sums - 1).abs() <= _SUM_TOLERANCE)
    if bad.any():
        row = numbers.index[bad].tolist()[0]
        raise InvalidParameterError(
            f"'scores' must be >= 0 and sum to 1 in each row. Row {row!r} does not, it sums to "
            f"{sums[bad].iloc[0]:.3g}; give 0 to an inactive module."
        )


def _gate_scores(estimator: Any, place: int) -> dict[str, float]:
    """Return module -> score of one estimator."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if not (hasattr(last, "gate_scores_") and hasattr(last, "module_names_")):
        raise InvalidParameterError(
            f"'estimator' must be a fitted MoERegressor, a Pipeline that ends in one, or a sequence of "
            f"these. Got {type(last).__name__} at place {place}, which has no 'gate_scores_'; call fit "
            'first. Of cross_validate(..., return_estimator=True), give the entry "estimator".'
        )
    return dict(zip(last.module_names_, map(float, last.gate_scores_), strict=True))


def _read_json_lines(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataFileError(f"{path}: does not exist; expected JSON lines of benchmark results.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return pd.DataFrame(
        [_parse(line, f"{path}: line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    )


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataFileError(f"{where} is no JSON ({error.msg}, column {error.colno}).") from error
    if not isinstance(row, dict):
        raise DataFileError(f"{where} is no JSON object. Got {type(row).__name__}.")
    return row


def _rows_of_one_method(results: pd.DataFrame, method: str | None) -> pd.DataFrame:
    """Return the results with gate scores, of one method."""
    for column in ("task", "seed", "method", "gate_scores"):
        if column not in results:
            raise DataFileError(f"Benchmark results must have a column {column!r}. Got {list(results)}.")
    rows = results[[isinstance(scores, dict) for scores in results["gate_scores"]]]
    if rows.empty:
        raise DataFileError("Benchmark results hold no 'gate_scores'; expected dicts from module to score.")
    methods = list(dict.fromkeys(rows["method"]))
    if method is None and len(methods) > 1:
        raise InvalidParameterError(f"'method' must choose one of {methods}, which all have gate scores.")
    if method is not None and method not in methods:
        raise UnknownNameError(suggest(method, methods, what="method with gate scores"))
    return rows if method is None else rows[rows["method"] == method]


def _mean_by_task(rows: pd.DataFrame) -> pd.DataFrame:
    index = pd.MultiIndex.from_frame(rows[["task", "seed"]])
    if not index.is_unique:
        doubled = index[index.duplicated()].tolist()[0]
        raise InvalidParameterError(
            f"'results' must hold each task and seed once per method. {doubled!r} comes twice; "
            "select the rows that belong together."
        )
    scores = _checked(pd.DataFrame(list(rows["gate_scores"]), index=index).fillna(0.0))
    return scores.groupby(level="task", sort=False).mean()


# --- drawing -----------------------------------------------------------------------------------------


# Sizes are width and height in inches; the room for the names grows with the longest of them.
def _bar_size(scores: pd.DataFrame) -> tuple[float, float]:
    return 4.6 + 0.07 * _longest_name(scores), 1.6 + 0.3 * scores.shape[1]


def _heatmap_size(scores: pd.DataFrame) -> tuple[float, float]:
    n_rows, n_modules = scores.shape
    return 3.2 + 0.45 * n_modules, 0.8 + 0.06 * _longest_name(scores) + 0.4 * max(n_rows, 3)


def _longest_name(scores: pd.DataFrame) -> int:
    return max(len(str(name)) for name in scores.columns)


def _new_axes(size: tuple[float, float]) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Drawing needs matplotlib; install it with: pip install "matmosaic[plot]"'
        ) from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def _draw_bars(ax: Axes, scores: pd.DataFrame) -> None:
    n_rows, n_modules = scores.shape
    places = np.arange(n_modules)
    row = _row_kind(scores)
    label = f"mean of {n_rows} {row}s" if n_rows > 1 else f"one {row}"
    ax.barh(places, scores.mean(), height=0.8, color=_BAR_COLOUR, label=label)
    if n_rows > 1:
        _draw_spread(ax, scores, places)
    n_active = (scores > 0).sum(axis=1).max()
    ax.axvline(1 / n_active, color="black", linestyle="--", linewidth=1, label=f"even share, 1/{n_active}")
    ax.set_yticks(places, labels=map(str, scores.columns))
    ax.set_ylim(n_modules - 0.5, -0.5)  # the first module is on top
    ax.set_xlim(left=0)
    ax.set(xlabel="Gate score", ylabel="Module")
    # Below the label of the x axis (the distance is in font sizes), so that it covers no bar.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=2, frameon=False)


def _draw_spread(ax: Axes, scores: pd.DataFrame, places: np.ndarray) -> None:
    """Draw each row as a dot, at the same height in every bar, and the standard deviation."""
    heights = places + np.linspace(-0.3, 0.3, len(scores))[:, None]
    style: dict[str, Any] = {"s": 14, "color": "black", "alpha": 0.35, "linewidths": 0, "clip_on": False}
    ax.scatter(scores.to_numpy(), heights, label=f"one {_row_kind(scores)}", zorder=2, **style)
    style = {"fmt": "none", "ecolor": "black", "capsize": 4, "elinewidth": 1.2}
    ax.errorbar(scores.mean(), places, xerr=scores.std(), label="standard deviation", zorder=3, **style)


def _draw_heatmap(ax: Axes, scores: pd.DataFrame) -> None:
    image = ax.imshow(scores.to_numpy(), cmap=_COLOUR_MAP, vmin=0, aspect="auto")
    ax.set_xticks(range(scores.shape[1]), labels=map(str, scores.columns))
    ax.tick_params(axis="x", rotation=45)
    for tick in ax.get_xticklabels():
        tick.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(scores.shape[0]), labels=map(str, scores.index))
    ax.set(xlabel="Module", ylabel=_row_kind(scores).capitalize())
    _write_numbers(ax, image, scores.to_numpy())
    ax.figure.colorbar(image, ax=ax, label="Gate score")


def _write_numbers(ax: Axes, image: AxesImage, values: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if _luminance(image.to_rgba(value)) > _LEGIBLE_IN_BLACK else "white"
        number = f"{value:.2f}" if value else "0"  # an inactive module is not one of score 0.00
        ax.text(column, row, number, ha="center", va="center", color=colour, fontsize="small")


def _luminance(colour: Any) -> float:
    """Return the relative luminance of a colour in sRGB, 0 (black) to 1 (white), by WCAG 2."""
    channels = np.asarray(colour)[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
