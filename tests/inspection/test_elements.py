import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError

from matmosaic.exceptions import InvalidParameterError, UnusableRowsWarning
from matmosaic.inspection import ErrorByElementDisplay


@pytest.fixture
def display(NaCl, CsCl, Cu):
    return ErrorByElementDisplay.from_predictions(
        [NaCl, CsCl, Cu], [1.0, 1.0, 1.0], [1.2, 0.6, 2.0], unit="eV"
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def boxes(ax):
    """Return the cells with and without a hatch."""
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    return [patch for patch in ax.patches if not patch.get_hatch()], hatched


def test_each_structure_counts_once_for_each_of_its_elements(display):
    assert display.summary().round(3).to_dict("index") == {
        "Na": {"mae": 0.2, "bias": 0.2, "n": 1},
        "Cl": {"mae": 0.3, "bias": -0.1, "n": 2},
        "Cu": {"mae": 1.0, "bias": 1.0, "n": 1},
        "Cs": {"mae": 0.4, "bias": -0.4, "n": 1},
    }


def test_estimator_predicts(NaCl):
    class Constant(DummyRegressor):
        def predict(self, X):
            return np.full(len(X), 3.0)

    model = Constant().fit([[0]], [3.0])
    display = ErrorByElementDisplay.from_estimator(model, [NaCl, NaCl], [1.0, 3.0])
    assert display.summary().loc["Na"].to_dict() == {"mae": 1, "bias": 1, "n": 2}


def test_every_element_has_a_cell_and_those_without_data_are_hatched(display):
    assert display.plot() is display
    plain, hatched = boxes(display.ax_)
    assert (len(plain), len(hatched)) == (4, 114 + 1)  # one more tells what the hatch means
    written = texts(display.ax_)
    assert {"Na", "0.200", "n 1", "Cl", "0.300", "n 2", "He", "Og"} <= set(written)
    assert any(text.startswith("no structures") for text in written)


def test_no_two_cells_share_a_place(display):
    places = [patch.get_xy() for patch in display.plot().ax_.patches]
    assert len(set(places)) == len(places)


def test_cells_stand_where_elements_belong(display):
    where = {text.get_text(): text.get_position() for text in display.plot().ax_.texts}
    assert where["He"][0] == 18
    assert where["Li"][0] == where["Na"][0] == 1
    assert where["C"][0] == where["Si"][0] == 14
    assert where["La"][1] > where["Og"][1]


def test_larger_errors_are_darker_on_light_and_lighter_on_dark(display, style):
    plain, _ = boxes(display.plot().ax_)
    cells = dict(
        zip(["Na", "Cl", "Cu", "Cs"], (sum(patch.get_facecolor()[:3]) for patch in plain), strict=True)
    )
    order = sorted(cells, key=cells.get, reverse=style == "default")
    assert order == ["Na", "Cl", "Cs", "Cu"]


def test_scale_of_colours(display):
    (scale,) = display.plot().ax_.child_axes
    assert scale.get_xlabel() == "Mean absolute error (eV)"
    assert scale.get_xlim() == (0, 1)
    (scale,) = display.plot(vmax=2).ax_.child_axes
    assert scale.get_xlim() == (0, 2)


def test_rare_elements_can_be_hatched(display):
    ax = display.plot(min_count=2).ax_
    plain, _ = boxes(ax)
    assert len(plain) == 1
    assert any(text.startswith("fewer than 2 structures") for text in texts(ax))


def test_faultless_predictions_can_be_drawn(Cu):
    ErrorByElementDisplay.from_predictions([Cu], [1.0], [1.0]).plot()


def test_text_lies_within_its_cell(display, style):
    """Counts and errors of the greatest width that occurs."""
    wide = pd.DataFrame({"mae": 0.00123, "bias": 0.0, "n": 12345}, index=["Na", "Mc", "Fm"])
    ax = ErrorByElementDisplay(wide).plot().ax_
    ax.figure.draw_without_rendering()
    cells = [patch.get_window_extent() for patch in boxes(ax)[0]]
    for text in ax.texts:
        if text.get_text() in {"Na", "Mc", "Fm", "0.00123", "n 12,345"}:
            box = text.get_window_extent()
            assert any(c.x0 <= box.x0 and box.x1 <= c.x1 and c.y0 <= box.y0 and box.y1 <= c.y1 for c in cells)


def test_everything_lies_within_the_figure(display, fits, style):
    fits(display.plot().figure_)


def test_given_axes_are_drawn_on(display):
    figure, ax = plt.subplots()
    display.plot(ax)
    assert (display.ax_, display.figure_) == (ax, figure)


def test_structures_without_prediction_are_left_out(NaCl, Cu):
    with pytest.warns(UnusableRowsWarning, match="1 of 2 predictions"):
        display = ErrorByElementDisplay.from_predictions([NaCl, Cu], [1.0, 1.0], [np.nan, 2.0])
    assert display.summary().index.tolist() == ["Cu"]


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (3, "Got int"),
        (pd.DataFrame(), r"Got \[\]"),
        (pd.DataFrame({"mae": [1.0]}, index=["Na"]), r"Got \['mae'\]"),
        (pd.DataFrame({"mae": [1.0], "n": [1]}, index=["Xx"]), "symbols of elements. Got 'Xx'"),
    ],
    ids=["number", "empty", "column", "element"],
)
def test_what_are_no_errors_is_refused(errors, message):
    with pytest.raises(InvalidParameterError, match=message):
        ErrorByElementDisplay(errors)


def test_misuse_is_refused(display, NaCl):
    with pytest.raises(NotFittedError):
        ErrorByElementDisplay.from_estimator(DummyRegressor(), [NaCl], [1.0])
    with pytest.raises(InvalidParameterError, match="'X' and 'y' must have the same length. Got 1 and 2"):
        ErrorByElementDisplay.from_predictions([NaCl], [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(InvalidParameterError, match="'min_count' must be at most 2"):
        display.plot(min_count=3)
    assert plt.get_fignums() == []
