import itertools
import json
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupShuffleSplit

from matmosaic.exceptions import (
    DataFileError,
    InvalidParameterError,
    MatmosaicWarning,
    UnknownNameError,
    UnusableRowsWarning,
)
from matmosaic.inspection import LearningCurveDisplay

# Mean errors of each method with 50, 100 and 1,000 labels; the seeds lie 0.1 above and below.
MEANS = {"scratch": (0.9, 0.7, 0.5), "transfer": (0.6, 0.5, 0.4)}
SIZES = (50, 100, 1000)


@pytest.fixture
def runs():
    return pd.DataFrame(
        [
            {
                "task": "gap",
                "unit": "eV",
                "method": method,
                "labels": labels,
                "seed": seed,
                "mae": mean + shift,
            }
            for method, means in MEANS.items()
            for labels, mean in zip(SIZES, means, strict=True)
            for seed, shift in enumerate((-0.1, 0.1))
        ]
    )


def curves(ax):
    """Return label -> (x, y) of every line of errors."""
    return {c.get_label(): np.transpose(c.lines[0].get_xydata()) for c in ax.containers}


# --- from results ------------------------------------------------------------------------------------


def test_summary(runs):
    summary = LearningCurveDisplay.from_results(runs).summary()
    assert summary.index.tolist() == list(itertools.product(MEANS, SIZES))
    assert summary["mean"].tolist() == pytest.approx([*MEANS["scratch"], *MEANS["transfer"]])
    assert summary["std"].tolist() == pytest.approx([0.2 / np.sqrt(2)] * 6)
    assert summary["n_seeds"].tolist() == [2] * 6


def test_lines_with_the_spread_of_the_seeds(runs):
    display = LearningCurveDisplay.from_results(runs)
    assert display.plot() is display
    drawn = curves(display.ax_)
    for method, means in MEANS.items():
        x, y = drawn[method]
        assert x == pytest.approx(SIZES, rel=0.05)
        assert y == pytest.approx(means)
    bars = display.ax_.containers[0].lines[2][0].get_segments()
    assert [np.ptp(bar[:, 1]) for bar in bars] == pytest.approx([0.4 / np.sqrt(2)] * 3)
    assert display.ax_.get_ylabel() == "Mean absolute error (eV)"
    assert display.ax_.get_xscale() == "log"
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["50", "100", "1,000"]


def test_methods_differ_without_colour(runs):
    first, second = (c.lines[0] for c in LearningCurveDisplay.from_results(runs).plot().ax_.containers)
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()


def test_bars_of_one_number_of_labels_do_not_cover_each_other(runs):
    drawn = curves(LearningCurveDisplay.from_results(runs).plot().ax_)
    assert (drawn["scratch"][0] < drawn["transfer"][0]).all()


@pytest.mark.parametrize(("spread", "n_bands"), [("band", 2), ("none", 0)])
def test_spread_as_band_or_not_at_all(runs, spread, n_bands):
    ax = LearningCurveDisplay.from_results(runs).plot(spread=spread).ax_
    assert [len(ax.lines), len(ax.collections), len(ax.containers)] == [2, n_bands, 0]
    assert ax.lines[0].get_xdata().tolist() == list(SIZES)


def test_methods_are_chosen_and_ordered(runs):
    display = LearningCurveDisplay.from_results(runs, methods=["transfer", "scratch"])
    assert list(curves(display.plot().ax_)) == ["transfer", "scratch"]
    assert set(LearningCurveDisplay.from_results(runs, methods=["scratch"]).results["method"]) == {"scratch"}


def test_sizes_near_each_other_are_linear(runs):
    ax = LearningCurveDisplay.from_results(runs[runs["labels"] < 1000]).plot().ax_
    assert ax.get_xscale() == "linear"


def test_names_of_other_benchmarks_are_known(runs):
    renamed = runs.rename(columns={"task": "target", "seed": "trial", "labels": "size"})
    pd.testing.assert_frame_equal(
        LearningCurveDisplay.from_results(renamed).summary(),
        LearningCurveDisplay.from_results(runs).summary(),
    )


def test_results_are_read_from_json_lines(runs, tmp_path):
    path = tmp_path / "runs.jsonl"
    runs.to_json(path, orient="records", lines=True)
    assert LearningCurveDisplay.from_results(path).unit == "eV"
    assert len(LearningCurveDisplay.from_results([path]).results) == len(runs)


def test_documents_of_evaluate_are_points_of_a_curve():
    def document(n_train, mae):
        folds = [{"mae": mae, "n_train": n_train}, {"mae": mae + 0.2, "n_train": n_train + 1}]
        rows = [{"method": "transfer", "module": "bundled:emt-eform", "folds": folds}]
        return {"target": "gap", "unit": "eV", "rows": rows}

    display = LearningCurveDisplay.from_results([document(20, 0.6), document(80, 0.3)])
    assert display.unit == "eV"
    assert display.summary()["mean"].to_dict() == pytest.approx(
        {("transfer bundled:emt-eform", 20): 0.7, ("transfer bundled:emt-eform", 80): 0.4}
    )


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "indented"])
def test_file_of_one_document(tmp_path, indent):
    rows = [{"method": "a", "labels": 10, "seed": seed, "mae": 0.5} for seed in range(2)]
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps({"target": "gap", "unit": "eV", "rows": rows}, indent=indent), encoding="utf-8"
    )
    display = LearningCurveDisplay.from_results(str(path))
    assert (len(display.results), display.unit) == (2, "eV")


def test_other_errors(runs):
    display = LearningCurveDisplay.from_results(runs.assign(r2=0.5), metric="r2")
    assert display.plot().ax_.get_ylabel() == "R²"


def test_given_unit_overrules(runs):
    assert LearningCurveDisplay.from_results(runs, unit="meV").unit == "meV"


def test_everything_lies_within_the_figure(runs, fits, style):
    long = runs.replace("transfer", "transfer bundled:some-module-of-a-long-name")
    fits(LearningCurveDisplay.from_results(long).plot().figure_)


def test_given_axes_are_drawn_on(runs):
    figure, ax = plt.subplots()
    display = LearningCurveDisplay.from_results(runs).plot(ax)
    assert (display.ax_, display.figure_) == (ax, figure)


# --- from estimators ---------------------------------------------------------------------------------


class Recorder(RegressorMixin, BaseEstimator):
    """Predicts the mean, and notes what it was fitted to."""

    seen: ClassVar[list] = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.seen.append((self.random_state, sorted(X)))
        self.mean_ = np.mean(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


@pytest.fixture
def seen():
    Recorder.seen.clear()
    return Recorder.seen


def test_estimators_are_fitted_to_nested_rows_with_a_seed_each(seen):
    # A list of objects, as structures come.
    LearningCurveDisplay.from_estimators({"r": Recorder()}, list("abcdefgh"), range(8), sizes=[2, 4], cv=3)
    assert [(seed, len(rows)) for seed, rows in seen] == [(0, 2), (0, 4), (1, 2), (1, 4), (2, 2), (2, 4)]
    assert all(set(few) < set(more) for (_, few), (_, more) in zip(seen[::2], seen[1::2], strict=True))


def test_all_methods_see_the_same_rows(seen):
    LearningCurveDisplay.from_estimators(
        {"a": Recorder(), "b": Recorder()}, range(8), range(8), sizes=[3], cv=2
    )
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0] != seen[2]


def test_errors_are_those_of_the_test_rows():
    X = np.arange(20.0)[:, None]
    methods = {"line": LinearRegression(), "mean": DummyRegressor()}
    display = LearningCurveDisplay.from_estimators(methods, X, X[:, 0], sizes=[5, 10], cv=2, unit="eV")
    errors = display.summary()["mean"]
    assert errors["line"].to_numpy() == pytest.approx([0, 0])
    assert (errors["mean"] > 1).all()
    assert {"mae", "rmse", "r2"} <= set(display.results)
    display.plot()


def test_splitter_keeps_groups_together(seen):
    splitter = GroupShuffleSplit(1, test_size=0.5, random_state=0)
    groups = [0, 0, 1, 1]
    LearningCurveDisplay.from_estimators(
        {"r": Recorder()}, list("abcd"), range(4), sizes=[2], cv=splitter, groups=groups
    )
    assert seen[0][1] in (["a", "b"], ["c", "d"])


@pytest.mark.parametrize(
    ("estimators", "sizes", "message"),
    [
        ({}, [2], "at least one. Got an empty one"),
        (DummyRegressor(), [2], "must be a dict .* Got DummyRegressor"),
        ({"d": DummyRegressor()}, [], "'sizes' must be numbers"),
        ({"d": DummyRegressor()}, [0], "'sizes' must be numbers"),
        ({"d": DummyRegressor()}, [2, 7], "training rows, 6 in split 0. Got 7"),
    ],
    ids=["empty", "estimator", "no size", "zero", "too many"],
)
def test_impossible_requests_are_refused(estimators, sizes, message):
    with pytest.raises(InvalidParameterError, match=message):
        LearningCurveDisplay.from_estimators(estimators, np.zeros((8, 1)), np.arange(8), sizes=sizes)


# --- misuse ------------------------------------------------------------------------------------------


def test_results_of_different_tasks_do_not_mix(runs):
    both = pd.concat([runs, runs.assign(task="bulk_modulus", unit="GPa")])
    with pytest.raises(InvalidParameterError, match=r"'task' must choose one of \['gap', 'bulk_modulus'\]"):
        LearningCurveDisplay.from_results(both)
    assert LearningCurveDisplay.from_results(both, task="bulk_modulus").unit == "GPa"
    with pytest.raises(UnknownNameError, match="Did you mean 'gap'"):
        LearningCurveDisplay.from_results(both, task="gapp")


def test_results_of_different_units_do_not_mix(runs):
    runs.loc[0, "unit"] = "meV"
    with pytest.raises(InvalidParameterError, match=r"one unit. Got \['meV', 'eV'\]"):
        LearningCurveDisplay.from_results(runs)


def test_run_that_comes_twice_is_refused_with_what_differs(runs):
    both = pd.concat([runs.assign(epochs=40), runs.assign(epochs=60, mae=0.0)])
    with pytest.raises(
        InvalidParameterError,
        match="method scratch, labels 50, seed 0 comes 2 times, with different 'epochs'",
    ):
        LearningCurveDisplay.from_results(both)


@pytest.mark.parametrize("column", ["method", "labels", "seed"])
def test_missing_column_is_suggested(runs, column):
    with pytest.raises(DataFileError, match=f"a column '{column}'. .* Did you mean '{column}s'"):
        LearningCurveDisplay.from_results(runs.rename(columns={column: column + "s"}))


def test_unknown_names_are_suggested(runs):
    with pytest.raises(UnknownNameError, match="Did you mean 'mae'"):
        LearningCurveDisplay.from_results(runs, metric="maee")
    with pytest.raises(UnknownNameError, match="Did you mean 'scratch'"):
        LearningCurveDisplay.from_results(runs, methods=["scratsh"])
    with pytest.raises(InvalidParameterError, match="must name at least one"):
        LearningCurveDisplay.from_results(runs, methods=[])


@pytest.mark.parametrize("labels", [None, 0, "many"])
def test_unknown_number_of_labels_is_refused(runs, labels):
    runs["labels"] = runs["labels"].astype(object)
    runs.loc[3, "labels"] = labels
    with pytest.raises(InvalidParameterError, match="Row 3 has"):
        LearningCurveDisplay.from_results(runs)


def test_runs_without_error_are_counted_and_left_out(runs):
    runs.loc[[0, 6], "mae"] = np.nan
    with pytest.warns(UnusableRowsWarning, match="2 of 12 results .* of 'scratch', seed 0"):
        display = LearningCurveDisplay.from_results(runs)
    assert len(display.results) == 10
    with pytest.raises(DataFileError, match="no finite 'mae' in any of their 12 rows"):
        LearningCurveDisplay.from_results(runs.assign(mae=np.nan))


def test_means_of_different_seeds_are_reported(runs):
    with pytest.warns(MatmosaicWarning, match=r"With 50 labels, .* \(scratch 1, transfer 2\)"):
        LearningCurveDisplay.from_results(runs.drop(index=0))


@pytest.mark.parametrize("results", [[], pd.DataFrame(), {"rows": []}], ids=["list", "table", "document"])
def test_no_results_are_refused(results):
    with pytest.raises(DataFileError, match="at least one run. Got none"):
        LearningCurveDisplay.from_results(results)


def test_what_are_no_results_is_refused():
    with pytest.raises(InvalidParameterError, match="or several of these. Got int"):
        LearningCurveDisplay.from_results([3])


def test_unknown_spread_is_refused(runs):
    with pytest.raises(InvalidParameterError, match="'spread' must be one of"):
        LearningCurveDisplay.from_results(runs).plot(spread="box")
    assert plt.get_fignums() == []
