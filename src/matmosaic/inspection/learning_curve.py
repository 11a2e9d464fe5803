"""Test errors over numbers of labels: does transfer help, and until how many labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import ShuffleSplit, check_cv
from sklearn.utils import _safe_indexing

from matmosaic.exceptions import InvalidParameterError, MatmosaicWarning
from matmosaic.inspection._checks import check_choice, errors_of, pairs
from matmosaic.inspection._drawing import (
    legend_beside,
    new_axes,
    room_beside,
    series_style,
    size_axis,
    spread_out,
)
from matmosaic.inspection._results import (
    Results,
    error_label,
    finite,
    of_methods,
    of_one_task,
    once,
    read_results,
    require,
    unit_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Spread = Literal["bar", "band", "none"]

_TEST_SHARE = 0.25


class LearningCurveDisplay:
    """Test errors over numbers of labels, of several methods, with their spread over seeds.

    Make one with `from_estimators`, which fits, or `from_results`; `plot` draws it, `summary` returns its
    numbers. matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is
    opened.

    Parameters
    ----------
    results : DataFrame of shape (n_runs, n_columns)
        A row per run with ``method``, ``labels`` (number of training labels), ``seed`` (or number of the
        split) and an error, all of one task.
    metric : str, default="mae"
        Column of the error.
    unit : str, optional
        Unit of the error, for what is drawn.

    Attributes
    ----------
    results : DataFrame of shape (n_runs, n_columns)
        The runs that have an error.
    metric, unit : str or None
        As given.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    DataFileError
        If a column is missing, no run has an error, or a number of labels is missing.
    UnknownNameError
        If there is no column `metric`.
    InvalidParameterError
        If a method has two runs of one seed and number of labels.

    Warns
    -----
    UnusableRowsWarning
        If some runs have no finite error.
    MatmosaicWarning
        If methods were not run with the same seeds, so that their means are of different splits.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame({"labels": [50, 50, 200, 200], "seed": [0, 1, 0, 1], "mae": [0.4, 0.6, 0.2, 0.3]})
    >>> LearningCurveDisplay(runs.assign(method="scratch"), unit="eV").summary()["mean"].round(2).to_dict()
    {('scratch', 50): 0.5, ('scratch', 200): 0.25}
    """

    results: pd.DataFrame
    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, results: pd.DataFrame, *, metric: str = "mae", unit: str | None = None) -> None:
        require(results, "method", "labels", "seed")
        _check_labels(results)
        self.results = finite(results, metric).astype({"labels": int})
        once(self.results, "method", "labels", "seed")
        self.metric = metric
        self.unit = unit
        _warn_of_gaps(self.results)

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        task: str | None = None,
        methods: Sequence[str] | None = None,
        metric: str = "mae",
        unit: str | None = None,
    ) -> Self:
        """Show results that were measured before.

        Parameters
        ----------
        results : DataFrame, path, document or sequence of these
            A row per run, as for the class, perhaps with ``task`` and ``unit``: as a table, a file of JSON
            lines, or what ``matmosaic evaluate --json`` or a benchmark printed. ``target``, ``trial`` and
            ``size`` (or ``n_train``) are read as ``task``, ``seed`` and ``labels``.
        task : str, optional
            Keep this task. Needed where results are of several: errors of different properties do not share
            an axis.
        methods : sequence of str, optional
            Keep these, in this order. By default all.
        metric : str, default="mae"
            Column of the error.
        unit : str, optional
            Unit of the error; by default what the results state.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        DataFileError
            If a file is missing or malformed, or results lack a column.
        UnknownNameError
            If there is no such task, method or error.
        InvalidParameterError
            If results are of several tasks or units, or hold a run twice.
        """
        table = of_one_task(read_results(results), task)
        require(table, "method", "labels", "seed")
        table = of_methods(table, methods)
        return cls(table, metric=metric, unit=unit_of(table, unit))

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        sizes: Sequence[int],
        cv: Any = 5,
        groups: Any = None,
        unit: str | None = None,
    ) -> Self:
        """Fit every method with every number of labels on every split; all see the same rows.

        The training rows of a split are put in a random order once, and the first ones are taken, so that
        more labels are the fewer ones and others besides. An estimator with a ``random_state`` gets the
        number of the split.

        Parameters
        ----------
        estimators : dict of str to regressor
            Name of each method and its estimator, which is cloned.
        X : list, Series, array or GraphTable of n_rows rows
            Structures or features that the estimators take.
        y : array-like of shape (n_rows,)
            Labels, in `unit`.
        sizes : sequence of int
            Numbers of training labels.
        cv : int, splitter or iterable of (train, test), default=5
            A number stands for that many random splits, with a quarter of the rows for the test.
        groups : array-like of shape (n_rows,), optional
            For a splitter that keeps groups together, such as ``GroupShuffleSplit``.
        unit : str, optional
            Unit of the labels.

        Returns
        -------
        LearningCurveDisplay
            With ``mae``, ``rmse`` and ``r2`` of each run in `results`.

        Raises
        ------
        InvalidParameterError
            If there is no estimator or size, or a split has fewer training rows than a size.

        Warns
        -----
        UnusableRowsWarning
            If some predictions are not finite; these rows are left out of the error.
        """
        _check_request(estimators, sizes)
        labels = np.asarray(y, dtype=float)
        runs = []
        for seed, (train, test) in enumerate(_splits(cv, X, labels, groups)):
            order = np.random.default_rng(seed).permutation(train)
            for size in sizes:
                _check_size(size, len(train), seed)
                runs += [
                    {
                        "method": name,
                        "labels": size,
                        "seed": seed,
                        **_run(estimator, X, labels, order[:size], test, seed),
                    }
                    for name, estimator in estimators.items()
                ]
        return cls(pd.DataFrame(runs), unit=unit)

    def summary(self) -> pd.DataFrame:
        """Return the spread of the errors over the seeds.

        Returns
        -------
        DataFrame
            Indexed by ``method`` and ``labels``: ``mean``, ``std`` (sample standard deviation, NaN of one
            seed), ``min``, ``max``, in `unit`, and ``n_seeds``.
        """
        groups = self.results.groupby(["method", "labels"], sort=False)[self.metric]
        numbers = groups.agg(["mean", "std", "min", "max", "size"]).rename(columns={"size": "n_seeds"})
        order = {name: place for place, name in enumerate(self._methods)}
        return numbers.sort_index(key=lambda level: level.map(order) if level.name == "method" else level)

    def plot(self, ax: Axes | None = None, *, spread: Spread = "bar") -> Self:
        """Draw a line per method, which differ in colour, marker and dashes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure.
        spread : {"bar", "band", "none"}, default="bar"
            How to draw the standard deviation over the seeds.

        Returns
        -------
        LearningCurveDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        InvalidParameterError
            If `spread` is none of these.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        check_choice("spread", spread, ("bar", "band", "none"))
        self.ax_ = new_axes((5.2 + room_beside(self._methods), 4.0)) if ax is None else ax
        numbers = self.summary()
        for place, method in enumerate(self._methods):
            self._draw_method(numbers.loc[method], place, spread)
        size_axis(self.ax_, self.results["labels"].to_numpy())
        n_seeds = numbers["n_seeds"].max()
        self.ax_.set(xlabel="Training labels", ylabel=error_label(self.metric, self.unit))
        if spread != "none" and n_seeds > 1:
            self.ax_.set_title(f"mean ± standard deviation of {n_seeds} seeds", fontsize="small")
        legend_beside(self.ax_)
        self.figure_ = self.ax_.figure
        return self

    @property
    def _methods(self) -> list[str]:
        return list(dict.fromkeys(self.results["method"]))

    def _draw_method(self, numbers: pd.DataFrame, place: int, spread: Spread) -> None:
        x = numbers.index.to_numpy(dtype=float)
        mean, std = numbers["mean"], numbers["std"].fillna(0.0)
        look = {"label": self._methods[place], **series_style(place)}
        if spread == "bar":
            among = self.results["labels"].to_numpy(dtype=float)
            x = spread_out(x, place, len(self._methods), among=among)
            self.ax_.errorbar(x, mean, yerr=std, capsize=3, elinewidth=1, **look)
            return
        self.ax_.plot(x, mean, **look)
        if spread == "band":
            self.ax_.fill_between(x, mean - std, mean + std, color=look["color"], alpha=0.2, linewidth=0)


# --- checking ----------------------------------------------------------------------------------------


def _check_labels(results: pd.DataFrame) -> None:
    counts = pd.to_numeric(results["labels"], errors="coerce")
    if (~(counts >= 1)).any():
        row = results.index[~(counts >= 1)].tolist()[0]
        raise InvalidParameterError(
            f"'labels' must be the number of training labels of each run. Row {row!r} has "
            f"{results['labels'][row]!r}; write down how many there were, or leave the row out."
        )


def _warn_of_gaps(results: pd.DataFrame) -> None:
    for labels, some in results.groupby("labels"):
        seeds = some.groupby("method", sort=False)["seed"].agg(set)
        if any(one != seeds.iloc[0] for one in seeds):
            counts = ", ".join(f"{method} {len(one)}" for method, one in seeds.items())
            warnings.warn(
                f"With {labels} labels, methods were not run with the same seeds ({counts}), so their means "
                "are of different splits.",
                MatmosaicWarning,
                stacklevel=4,
            )


def _check_request(estimators: Any, sizes: Sequence[int]) -> None:
    if not isinstance(estimators, Mapping) or not estimators:
        raise InvalidParameterError(
            "'estimators' must be a dict from name to estimator, with at least one. Got "
            f"{'an empty one' if isinstance(estimators, Mapping) else type(estimators).__name__}."
        )
    if not len(sizes) or min(sizes) < 1:
        raise InvalidParameterError(f"'sizes' must be numbers of labels >= 1, at least one. Got {sizes!r}.")


def _check_size(size: int, n_train: int, split: int) -> None:
    if size > n_train:
        raise InvalidParameterError(
            f"'sizes' must be at most the number of training rows, {n_train} in split {split}. Got {size}."
        )


# --- fitting -----------------------------------------------------------------------------------------


def _splits(cv: Any, X: Any, y: np.ndarray, groups: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = (
        ShuffleSplit(cv, test_size=_TEST_SHARE, random_state=0) if isinstance(cv, int) else check_cv(cv)
    )
    return list(splitter.split(np.zeros((len(y), 1)), y, groups))


def _run(
    estimator: Any, X: Any, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, float]:
    model = clone(estimator)
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    model.fit(_safe_indexing(X, train), y[train])
    kept = pairs(y[test], model.predict(_safe_indexing(X, test)))
    errors = errors_of(kept.y, kept.y_pred)
    return {name: errors[name] for name in ("mae", "rmse", "r2")}
