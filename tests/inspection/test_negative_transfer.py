import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from matmosaic.exceptions import DataFileError, InvalidParameterError, UnknownNameError, UnusableRowsWarning
from matmosaic.inspection import NegativeTransferDisplay

SIZES = {"small": 100, "large": 5000}


def run(task, method, seed, mae, **more):
    return {"task": task, "method": method, "seed": seed, "mae": mae, **more}


@pytest.fixture
def runs():
    """On the small task transfer gains 20 %, on the large one it loses 10 %; splits differ in difficulty."""
    return pd.DataFrame(
        [
            run(task, method, seed, difficulty * factor)
            for task, gain in (("large", 1.1), ("small", 0.8))
            for method, factor in (("scratch", 1.0), ("transfer", gain))
            for seed, difficulty in enumerate((0.5, 1.0, 1.5))
        ]
    )


@pytest.fixture
def budgets():
    return pd.DataFrame(
        [
            run("gap", method, seed, mae, labels=labels)
            for labels, gain in ((10, 0.5), (1000, 0.9))
            for method, factor in (("scratch", 1.0), ("transfer", gain), ("moe", gain))
            for seed, mae in enumerate((factor, 1.1 * factor))
        ]
    )


# --- numbers -----------------------------------------------------------------------------------------


def test_improvement_in_per_cent(runs):
    summary = NegativeTransferDisplay.from_results(runs, sizes=SIZES).summary().droplevel("labels")
    assert summary["improvement"].to_dict() == pytest.approx(
        {("large", "transfer"): -10, ("small", "transfer"): 20}
    )
    assert summary["size"].to_dict() == {("large", "transfer"): 5000, ("small", "transfer"): 100}
    assert summary["n_seeds"].tolist() == [3, 3]


def test_interval_is_that_of_paired_differences(runs):
    row = NegativeTransferDisplay.from_results(runs).summary().loc["small"].iloc[0]
    gains = 0.2 * np.array([0.5, 1.0, 1.5])
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((100 * low, 100 * high))


def test_one_seed_has_no_interval(runs):
    summary = NegativeTransferDisplay.from_results(runs[runs["seed"] == 0]).summary()
    assert summary[["low", "high"]].isna().all(axis=None)
    NegativeTransferDisplay(summary).plot()


def test_labels_are_the_sizes(budgets):
    summary = NegativeTransferDisplay.from_results(budgets).summary().sort_index()
    assert summary.loc[("gap", "transfer", 10), "size"] == 10
    assert summary.loc[("gap", "transfer"), "improvement"].tolist() == pytest.approx([50, 10])


def test_another_reference(budgets):
    summary = NegativeTransferDisplay.from_results(budgets, reference="moe", methods=["scratch"]).summary()
    assert summary["improvement"].tolist() == pytest.approx([-100, 100 * (0.9 - 1) / 0.9])


def test_pairs_are_of_one_seed(runs):
    """Rows in another order give the same."""
    shuffled = runs.sample(frac=1, random_state=0)
    expected = NegativeTransferDisplay.from_results(runs).summary().sort_index()
    pd.testing.assert_frame_equal(
        NegativeTransferDisplay.from_results(shuffled).summary().sort_index(), expected
    )


# --- drawing -----------------------------------------------------------------------------------------


def drawn(ax):
    """Return label -> points of the methods."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if line.get_label()[0] != "_"}


def test_tasks_stand_in_the_order_of_their_sizes(runs):
    display = NegativeTransferDisplay.from_results(runs, sizes=SIZES)
    assert display.plot() is display
    ax = display.ax_
    assert [label.get_text() for label in ax.get_xticklabels()] == ["small (100)", "large (5,000)"]
    points = drawn(ax)["transfer"]
    assert points[np.argsort(points[:, 0])].tolist() == [[0, pytest.approx(20)], [1, pytest.approx(-10)]]
    assert ax.get_ylabel() == "Improvement over scratch (%)"


def test_line_at_zero_and_what_lies_below(runs):
    ax = NegativeTransferDisplay.from_results(runs).plot().ax_
    assert [0, 0] in [list(line.get_ydata()) for line in ax.lines]
    (harm,) = ax.patches
    assert harm.get_y() + harm.get_height() == 0
    assert harm.get_hatch()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["transfer", "negative transfer"]


def test_zero_is_shown_where_all_gain(budgets):
    low, high = NegativeTransferDisplay.from_results(budgets).plot().ax_.get_ylim()
    assert low < 0 < high


def test_empty_markers_where_the_interval_holds_zero(runs):
    noisy = runs.copy()
    noisy.loc[(noisy["task"] == "large") & (noisy["method"] == "transfer"), "mae"] += [0.5, -0.5, 0.1]
    noisy.loc[(noisy["task"] == "small") & (noisy["method"] == "transfer"), "mae"] = [0.1, 0.6, 1.1]
    ax = NegativeTransferDisplay.from_results(noisy, sizes=SIZES).plot().ax_
    (hollow,) = (line for line in ax.lines if line.get_markerfacecolor() == ax.get_facecolor())
    assert hollow.get_xdata().tolist() == [1]


def test_label_budgets_are_joined_lines(budgets):
    ax = NegativeTransferDisplay.from_results(budgets).plot().ax_
    assert ax.get_xscale() == "log"
    points = drawn(ax)
    assert points["transfer"] == pytest.approx(np.array([[10, 50], [1000, 10]]), rel=0.05)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["transfer"].get_linestyle() != lines["moe"].get_linestyle()
    assert lines["transfer"].get_marker() != lines["moe"].get_marker()


def test_bars_span_the_interval(budgets):
    display = NegativeTransferDisplay.from_results(budgets)
    row = display.summary().loc[("gap", "transfer", 10)]
    segments = display.plot().ax_.containers[0].lines[2][0].get_segments()
    assert segments[0][:, 1].tolist() == pytest.approx([row["low"], row["high"]])


def test_several_tasks_with_budgets_have_a_line_each(budgets):
    both = pd.concat([budgets, budgets.assign(task="volume")])
    ax = NegativeTransferDisplay.from_results(both, methods=["transfer"]).plot().ax_
    assert {"transfer, gap", "transfer, volume"} <= set(drawn(ax))


def test_sizes_of_tasks_as_an_axis(runs):
    ax = NegativeTransferDisplay.from_results(runs, sizes=SIZES).plot(over="size").ax_
    assert sorted(drawn(ax)["transfer"][:, 0]) == [100, 5000]
    assert ax.get_xlabel() == "Rows of the data set"


@pytest.mark.parametrize("over", ["task", "size"])
def test_everything_lies_within_the_figure(runs, fits, style, over):
    long = runs.replace({"small": "jarvis_2d_exfoliation", "transfer": "transfer bundled:emt-eform"})
    sizes = {"jarvis_2d_exfoliation": 636, "large": 650}
    fits(NegativeTransferDisplay.from_results(long, sizes=sizes).plot(over=over).figure_)


def test_given_axes_are_drawn_on(runs):
    figure, ax = plt.subplots()
    display = NegativeTransferDisplay.from_results(runs).plot(ax)
    assert (display.ax_, display.figure_) == (ax, figure)


# --- misuse ------------------------------------------------------------------------------------------


def test_runs_without_reference_are_counted_and_left_out(runs):
    with pytest.warns(UnusableRowsWarning, match="1 of 6 results have no run of the reference"):
        display = NegativeTransferDisplay.from_results(runs.drop(index=0))
    assert display.summary().loc["large", "n_seeds"].tolist() == [2]
    apart = runs.assign(seed=range(len(runs)))
    with pytest.raises(DataFileError, match="no run that has one of the reference"):
        NegativeTransferDisplay.from_results(apart)


def test_names_are_suggested(runs):
    with pytest.raises(UnknownNameError, match="Did you mean 'scratch'"):
        NegativeTransferDisplay.from_results(runs, reference="scrach")
    with pytest.raises(UnknownNameError, match="Did you mean 'transfer'"):
        NegativeTransferDisplay.from_results(runs, methods=["tranfer"])
    with pytest.raises(DataFileError, match="a column 'task'"):
        NegativeTransferDisplay.from_results(runs.drop(columns="task"))


def test_metric_of_which_more_is_better_is_refused(runs):
    with pytest.raises(InvalidParameterError, match="must be an error, of which less is better"):
        NegativeTransferDisplay.from_results(runs.assign(r2=0.5), metric="r2")


def test_reference_alone_is_refused(runs):
    with pytest.raises(InvalidParameterError, match="a method besides 'scratch'"):
        NegativeTransferDisplay.from_results(runs[runs["method"] == "scratch"])


def test_run_that_comes_twice_is_refused(runs):
    with pytest.raises(InvalidParameterError, match="comes 2 times"):
        NegativeTransferDisplay.from_results(pd.concat([runs, runs]))


def test_axis_of_sizes_needs_sizes(runs, budgets):
    with pytest.raises(InvalidParameterError, match="That of 'large' is not; .* as `sizes`"):
        NegativeTransferDisplay.from_results(runs).plot(over="size")
    with pytest.raises(InvalidParameterError, match="must be 'size' where a task has several"):
        NegativeTransferDisplay.from_results(budgets).plot(over="task")
    with pytest.raises(InvalidParameterError, match="'over' must be one of"):
        NegativeTransferDisplay.from_results(runs).plot(over="time")
    assert plt.get_fignums() == []
