import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError, UnusableRowsWarning
from matmosaic.inspection import ParityDisplay

Y = [1.0, 2.0, 4.0, 3.0]
PREDICTED = [1.5, 2.0, 3.0, 3.5]


@pytest.fixture
def many():
    y = np.random.default_rng(0).normal(size=3000)
    return y, y + 0.1


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# --- numbers -----------------------------------------------------------------------------------------


def test_summary_agrees_with_scikit_learn():
    summary = ParityDisplay(Y, PREDICTED).summary()
    assert summary.index.tolist() == ["all"]
    assert summary.loc["all"].to_dict() == pytest.approx(
        {
            "mae": mean_absolute_error(Y, PREDICTED),
            "rmse": root_mean_squared_error(Y, PREDICTED),
            "r2": r2_score(Y, PREDICTED),
            "n": 4,
        }
    )


def test_groups_have_errors_of_their_own():
    summary = ParityDisplay(Y, PREDICTED, groups=["test", "train", "test", "train"]).summary()
    assert summary["mae"].to_dict() == {"test": 0.75, "train": 0.25, "all": 0.5}
    assert summary["n"].tolist() == [2, 2, 4]


def test_estimator_predicts():
    model = DummyRegressor().fit([[0], [0]], [1, 3])
    display = ParityDisplay.from_estimator(model, [[0]] * 4, Y, unit="eV", target="gap", groups="aabb")
    assert display.y_pred.tolist() == [2] * 4
    assert (display.unit, display.target, display.groups.tolist()) == ("eV", "gap", list("aabb"))


def test_target_is_the_name_of_the_labels():
    assert ParityDisplay(pd.Series(Y, name="gap"), PREDICTED).target == "gap"
    assert ParityDisplay(pd.Series(Y, name="gap"), PREDICTED, target="band gap").target == "band gap"


# --- drawing -----------------------------------------------------------------------------------------


def test_points_line_and_errors():
    display = ParityDisplay(Y, PREDICTED, unit="eV", target="gap")
    assert display.plot() is display
    ax = display.ax_
    (points,) = ax.collections
    assert points.get_offsets().tolist() == np.transpose([Y, PREDICTED]).tolist()
    (line,) = ax.lines
    assert (line.get_xdata() == line.get_ydata()).all()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("gap, label (eV)", "gap, prediction (eV)")
    (text,) = ax.texts
    assert text.get_text() == "MAE 0.500 eV\nRMSE 0.612 eV\nR² 0.700\n4 rows"
    assert ax.get_xlim() == ax.get_ylim()


def test_marginals_count_the_rows():
    above, beside = ParityDisplay(Y, PREDICTED).plot().marginals_
    assert sum(bar.get_height() for bar in above.patches) == 4
    assert sum(bar.get_width() for bar in beside.patches) == 4
    assert not ParityDisplay(Y, PREDICTED).plot(marginals=False).ax_.child_axes


def test_groups_differ_without_colour():
    ax = ParityDisplay(Y, PREDICTED, groups=["test", "train"] * 2, unit="eV").plot().ax_
    first, second = ax.collections
    assert first.get_offsets()[:, 0].tolist() == [1, 4]
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)
    assert legend_texts(ax)[1] == "train: MAE 0.250 eV, RMSE 0.354 eV, R² 0.500, 2 rows"


def test_many_rows_are_counted_in_hexagons(many):
    display = ParityDisplay(*many).plot()
    (hexagons,) = display.ax_.collections
    assert hexagons.get_array().sum() == 3000
    assert "Rows in a hexagon" in [ax.get_xlabel() for ax in display.figure_.axes]


def test_kind_overrules(many):
    (points,) = ParityDisplay(*many).plot(kind="scatter").ax_.collections
    assert len(points.get_offsets()) == 3000
    (hexagons,) = ParityDisplay(Y, PREDICTED).plot(kind="density").ax_.collections
    assert hexagons.get_array().sum() == 4


def test_equal_labels_have_no_r2():
    (text,) = ParityDisplay([1, 1], [1, 2]).plot().ax_.texts
    assert "R² undefined" in text.get_text()


def test_one_row_can_be_drawn():
    ax = ParityDisplay([0.0], [0.0]).plot().ax_
    assert ax.get_xlim() == (-0.5, 0.5)


@pytest.mark.parametrize("groups", [None, ["a", "a", "b", "b"]], ids=["one", "groups"])
@pytest.mark.parametrize("kind", ["scatter", "density"])
def test_everything_lies_within_the_figure(fits, style, kind, groups):
    display = ParityDisplay(Y, PREDICTED, groups=groups, unit="meV/atom", target="exfoliation energy")
    fits(display.plot(kind=kind).figure_)


def test_given_axes_are_drawn_on():
    figure, (left, right) = plt.subplots(ncols=2)
    display = ParityDisplay(Y, PREDICTED).plot(right)
    assert (display.ax_, display.figure_) == (right, figure)
    assert not left.has_data()


def test_dark_style_has_light_lines():
    with plt.style.context("dark_background"):
        (line,) = ParityDisplay(Y, PREDICTED).plot().ax_.lines
    assert line.get_color() == "white"


# --- misuse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_rows_without_prediction_are_counted_and_left_out(lost):
    with pytest.warns(UnusableRowsWarning, match=r"1 of 4 predictions .* the first is y_pred\[1\]"):
        display = ParityDisplay(Y, [1.5, lost, 3.0, 3.5], groups="abcd")
    assert display.y.tolist() == [1, 4, 3]
    assert display.groups.tolist() == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("y", "y_pred", "message"),
    [
        (Y, PREDICTED[:3], "same length. Got 4 and 3"),
        (Y, [np.nan] * 4, "None of its 4 is one"),
        ([], [], "None of its 0 is one"),
        (["a"], [1.0], "'y' must hold numbers"),
        (np.ones((2, 2)), np.ones((2, 2)), r"Got \(2, 2\); of several properties"),
        (pd.Series([1, 2]), pd.Series([1, 2], index=[1, 0]), "rows in the same order"),
    ],
    ids=["lengths", "nan", "empty", "text", "columns", "order"],
)
def test_values_that_are_no_pairs_are_refused(y, y_pred, message):
    with pytest.raises(InvalidParameterError, match=message):
        ParityDisplay(y, y_pred)


def test_missing_label_is_refused():
    with pytest.raises(InvalidTargetsError, match=r"y\[1\] is nan"):
        ParityDisplay([1, np.nan], [1, 2])


def test_groups_must_be_as_many_as_rows():
    with pytest.raises(InvalidParameterError, match="one value per row, 4. Got 2"):
        ParityDisplay(Y, PREDICTED, groups="ab")


def test_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError, match="DummyRegressor instance is not fitted yet"):
        ParityDisplay.from_estimator(DummyRegressor(), [[0]] * 4, Y)


@pytest.mark.parametrize("estimator", [DummyRegressor, 3], ids=["class", "number"])
def test_what_cannot_predict_is_refused(estimator):
    with pytest.raises(InvalidParameterError, match="must be a fitted regressor"):
        ParityDisplay.from_estimator(estimator, [[0]] * 4, Y)


def test_unknown_kind_is_refused():
    with pytest.raises(InvalidParameterError, match="'kind' must be one of .* Got 'violin'"):
        ParityDisplay(Y, PREDICTED).plot(kind="violin")
    assert plt.get_fignums() == []
