"""What methods gain or lose against training from scratch, over the size of the data set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from scipy import stats

from matmosaic.exceptions import DataFileError, InvalidParameterError, UnusableRowsWarning
from matmosaic.inspection._checks import check_choice, check_name
from matmosaic.inspection._drawing import (
    ink,
    legend_beside,
    new_axes,
    room_beside,
    series_style,
    size_axis,
    slant_names,
    spread_out,
)
from matmosaic.inspection._results import Results, finite, of_methods, once, read_results, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Over = Literal["auto", "size", "task"]

_CONFIDENCE = 0.95


class NegativeTransferDisplay:
    """What methods gain or lose against training from scratch, over the size of the data set.

    A method's error and that of the reference are compared on the same task, number of labels and seed; the
    mean difference is given in per cent of the reference's mean error. Positive is better than the reference,
    negative is negative transfer. Bars are confidence intervals of the mean paired difference (95 %,
    Student's t): one that crosses zero leaves open which is better.

    Make one with `from_results`; `plot` draws it, `summary` returns its numbers. matplotlib, which the extra
    ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    improvements : DataFrame of shape (n_comparisons, 5)
        Indexed by ``task``, ``method`` and ``labels`` (NaN where not stated), with ``size`` (number of
        labels or rows, NaN if unknown), ``improvement``, ``low``, ``high`` (in per cent) and ``n_seeds``.
    reference : str, default="scratch"
        Method that the others are compared with.

    Attributes
    ----------
    improvements : DataFrame of shape (n_comparisons, 5)
        As given.
    reference : str
        As given.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    References
    ----------
    Chang, Wang, Ertekin, npj Computational Materials 8, 242 (2022), Fig. 2, doi:10.1038/s41524-022-00929-x.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame(
    ...     {
    ...         "task": "gap",
    ...         "method": ["scratch", "scratch", "transfer", "transfer"],
    ...         "seed": [0, 1, 0, 1],
    ...         "mae": [1.0, 1.0, 0.8, 0.7],
    ...     }
    ... )
    >>> float(NegativeTransferDisplay.from_results(runs).summary()["improvement"].iloc[0].round(1))
    25.0
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, improvements: pd.DataFrame, *, reference: str = "scratch") -> None:
        require(improvements, "size", "improvement", "low", "high", "n_seeds")
        self.improvements = improvements
        self.reference = reference

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        reference: str = "scratch",
        methods: Sequence[str] | None = None,
        sizes: Mapping[str, int] | None = None,
        metric: str = "mae",
    ) -> Self:
        """Compare methods of saved results.

        Parameters
        ----------
        results : DataFrame, path, document or sequence of these
            A row per run with ``task``, ``method``, ``seed``, the error and perhaps ``labels``, the number of
            training labels: as a table, a file of JSON lines, or what ``matmosaic evaluate --json`` or a
            benchmark printed. ``target``, ``trial`` and ``size`` are read as ``task``, ``seed`` and
            ``labels``.
        reference : str, default="scratch"
            Method that the others are compared with.
        methods : sequence of str, optional
            Compare these. By default all others.
        sizes : dict of str to int, optional
            Number of rows of each task, where results do not state ``labels``.
        metric : str, default="mae"
            Column of the error, of which less is better.

        Returns
        -------
        NegativeTransferDisplay

        Raises
        ------
        DataFileError
            If a file is missing or malformed, results lack a column, or no run of any method has one of the
            reference beside it.
        UnknownNameError
            If there is no such method or error.
        InvalidParameterError
            If the metric is no error, results hold a run twice, or there is nothing to compare.

        Warns
        -----
        UnusableRowsWarning
            If some runs have no finite error, or no run of the reference on the same task, labels and seed.
        """
        if metric == "r2":
            raise InvalidParameterError("'metric' must be an error, of which less is better. Got 'r2'.")
        table = read_results(results)
        require(table, "task", "method", "seed")
        check_name(reference, dict.fromkeys(table["method"]), what="method")
        table = finite(table.assign(labels=_labels(table)), metric)
        once(table, "task", "method", "labels", "seed")
        others = table[table["method"] != reference]
        if others.empty:
            raise InvalidParameterError(f"'results' must hold a method besides {reference!r}. Got none.")
        paired = _paired(of_methods(others, methods), table[table["method"] == reference], metric)
        return cls(_improvements(paired, sizes or {}), reference=reference)

    def summary(self) -> pd.DataFrame:
        """Return the improvements.

        Returns
        -------
        DataFrame
            Indexed by ``task``, ``method`` and ``labels``: ``size`` (number of labels, or of rows),
            ``improvement`` over the reference in per cent of its mean error, ``low`` and ``high`` (95 %
            confidence, NaN of one seed) and ``n_seeds``, the number of pairs.
        """
        return self.improvements.copy()

    def plot(self, ax: Axes | None = None, *, over: Over = "auto") -> Self:
        """Draw the improvements, with a line at zero; below it, transfer does harm.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure.
        over : {"auto", "size", "task"}, default="auto"
            ``"size"`` draws against the number of labels (or rows), and joins those of one task and method.
            ``"task"`` gives each task a place, in the order of their sizes. ``"auto"`` does the latter for
            several tasks of one size each, or if no size is known.

        Returns
        -------
        NegativeTransferDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        InvalidParameterError
            If `over` is none of these, is ``"size"`` where a size is not known, or ``"task"`` where a
            task has several sizes.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        check_choice("over", over, ("auto", "size", "task"))
        rows = self.improvements.reset_index()
        by_task = over == "task" or (over == "auto" and _one_size_each(rows))
        _check_sizes(rows, by_task)
        names = _series_names(rows)
        self.ax_ = new_axes(_size(rows, names, by_task)) if ax is None else ax
        draw = _draw_tasks if by_task else _draw_sizes
        draw(self.ax_, rows.assign(series=names))
        _draw_zero(self.ax_)
        self.ax_.set_ylabel(f"Improvement over {self.reference} (%)")
        if rows["n_seeds"].max() > 1:
            self.ax_.set_title("bars: 95 % confidence; empty marker: it holds 0", fontsize="small")
        legend_beside(self.ax_)
        self.figure_ = self.ax_.figure
        return self


# --- comparing ---------------------------------------------------------------------------------------


def _labels(table: pd.DataFrame) -> pd.Series:
    """Return numbers of labels; -1 where results do not state any, as NaN is equal to nothing."""
    if "labels" not in table:
        return pd.Series(-1, index=table.index)
    return pd.to_numeric(table["labels"], errors="coerce").fillna(-1).astype(int)


def _paired(others: pd.DataFrame, reference: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return runs beside those of the reference on the same task, labels and seed."""
    on = ["task", "labels", "seed"]
    both = others.merge(reference[[*on, metric]], on=on, how="left", suffixes=("", " of reference"))
    paired = both[both[f"{metric} of reference"].notna()]
    if paired.empty:
        raise DataFileError("Results hold no run that has one of the reference on its task, labels and seed.")
    if len(paired) < len(both):
        warnings.warn(
            f"{len(both) - len(paired)} of {len(both)} results have no run of the reference on the same "
            "task, labels and seed, and are left out.",
            UnusableRowsWarning,
            stacklevel=4,
        )
    return paired.rename(columns={metric: "error", f"{metric} of reference": "reference"})


def _improvements(paired: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for (task, method, labels), runs in paired.groupby(["task", "method", "labels"], sort=False):
        known = labels if labels >= 0 else np.nan
        size = known if labels >= 0 else sizes.get(task, np.nan)
        rows.append({"task": task, "method": method, "labels": known, "size": size, **_improvement(runs)})
    return pd.DataFrame(rows).set_index(["task", "method", "labels"])


def _improvement(runs: pd.DataFrame) -> dict[str, float]:
    """Return the mean paired difference and its confidence interval, in per cent of the mean reference."""
    gain = (runs["reference"] - runs["error"]).to_numpy()
    scale = 100 / runs["reference"].mean()
    mean, n_seeds = gain.mean(), len(gain)
    half = np.nan
    if n_seeds > 1:
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, n_seeds - 1) * gain.std(ddof=1) / np.sqrt(n_seeds)
    return {
        "improvement": scale * mean,
        "low": scale * (mean - half),
        "high": scale * (mean + half),
        "n_seeds": n_seeds,
    }


# --- drawing -----------------------------------------------------------------------------------------


def _one_size_each(rows: pd.DataFrame) -> bool:
    n_sizes = rows.groupby("task")["size"].nunique()
    return bool(rows["size"].isna().any() or (len(n_sizes) > 1 and n_sizes.max() == 1))


def _check_sizes(rows: pd.DataFrame, by_task: bool) -> None:
    if by_task and rows.groupby("task")["size"].nunique().max() > 1:
        raise InvalidParameterError("'over' must be 'size' where a task has several numbers of labels.")
    unknown = rows["task"][rows["size"].isna()]
    if not by_task and len(unknown):
        raise InvalidParameterError(
            f"'over' may be 'size' if sizes are known. That of {unknown.iloc[0]!r} is not; give from_results "
            "the numbers of rows as `sizes`."
        )


def _series_names(rows: pd.DataFrame) -> list[str]:
    """Name methods and, where a task is a line of its own, the task too."""
    several = rows.groupby("task")["size"].nunique().max() > 1 and rows["task"].nunique() > 1
    return [f"{row.method}, {row.task}" if several else str(row.method) for row in rows.itertuples()]


def _size(rows: pd.DataFrame, names: list[str], by_task: bool) -> tuple[float, float]:
    beside = room_beside([*names, "negative transfer"])
    if not by_task:
        return 5.2 + beside, 4.0
    longest = max(len(str(task)) for task in rows["task"])
    return 2.2 + 0.55 * rows["task"].nunique() + beside, 3.4 + 0.06 * (longest + 8)


def _draw_series(ax: Axes, x: np.ndarray, rows: pd.DataFrame, style: dict[str, Any]) -> None:
    """Draw one method: markers are filled where the interval leaves no doubt of the sign, else empty."""
    y = rows["improvement"].to_numpy()
    arms = np.array([y - rows["low"], rows["high"] - y])
    sure = ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
    bars = {"fmt": "none", "ecolor": style["color"], "capsize": 3, "elinewidth": 1, "zorder": 2}
    ax.errorbar(x, y, yerr=np.nan_to_num(arms), **bars)
    ax.plot(x, y, label=rows["series"].iloc[0], zorder=3, **style)
    hollow = {**style, "linestyle": "none", "markerfacecolor": ax.get_facecolor(), "zorder": 4}
    ax.plot(x[~sure], y[~sure], **hollow)


def _draw_sizes(ax: Axes, rows: pd.DataFrame) -> None:
    sizes = rows["size"].to_numpy(dtype=float)
    joined = rows.groupby(["series", "task"]).size().max() > 1
    series = list(dict.fromkeys(rows["series"]))
    for place, name in enumerate(series):
        some = rows[rows["series"] == name].sort_values("size")
        style = series_style(place) if joined else {**series_style(place), "linestyle": "none"}
        x = spread_out(some["size"].to_numpy(dtype=float), place, len(series), among=sizes)
        _draw_series(ax, x, some, style)
    size_axis(ax, sizes)
    ax.set_xlabel("Training labels" if rows["labels"].notna().all() else "Rows of the data set")


def _draw_tasks(ax: Axes, rows: pd.DataFrame) -> None:
    tasks = rows.groupby("task", sort=False)["size"].first().sort_values(kind="stable")
    series = list(dict.fromkeys(rows["series"]))
    for place, name in enumerate(series):
        some = rows[rows["series"] == name]
        shift = (place - (len(series) - 1) / 2) * min(0.18, 0.7 / len(series))
        x = tasks.index.get_indexer(some["task"]) + shift
        _draw_series(ax, x, some, {**series_style(place), "linestyle": "none"})
    ax.set_xticks(range(len(tasks)), labels=[_task_label(*item) for item in tasks.items()])
    ax.set_xlim(-0.6, len(tasks) - 0.4)
    slant_names(ax)
    ax.set_xlabel("Task (number of labels)" if rows["labels"].notna().all() else "Task")


def _task_label(task: Any, size: float) -> str:
    return f"{task} ({int(size):,})" if np.isfinite(size) else str(task)


def _draw_zero(ax: Axes) -> None:
    """Draw the line of no gain, and hatch what lies below it."""
    ax.axhline(0, color=ink(ax), linewidth=1, zorder=1.5)
    low, high = ax.get_ylim()
    low, high = min(low, -0.1 * (high - low)), max(high, 0.1 * (high - low))
    ax.axhspan(
        low,
        0,
        facecolor="none",
        edgecolor=(ink(ax), 0.2),
        hatch="///",
        linewidth=0,
        label="negative transfer",
    )
    ax.set_ylim(low, high)
