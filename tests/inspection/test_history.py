import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from matmosaic.exceptions import InvalidParameterError, UnknownNameError
from matmosaic.inspection import HistoryDisplay

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [3.0, 2.0, 1.0],
        "valid_loss": [3.5, 1.5, 2.5],
        "valid_mae": [0.3, 0.1, 0.2],
        "dur": [1.0, 1.0, 1.0],
    }
)


class Network(BaseEstimator):
    """What of a fitted estimator the display reads."""

    def fit(self, X, y):
        self.history_ = HISTORY
        self.best_epoch_ = 2
        return self


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize("wrap", [lambda one: one, make_pipeline], ids=["estimator", "pipeline"])
def test_losses_and_the_epoch_that_was_kept(wrap):
    display = HistoryDisplay.from_estimator(wrap(Network().fit(None, None)))
    assert display.plot() is display
    lines = lines_of(display.ax_)
    assert lines["training"].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert lines["validation"].get_ydata().tolist() == [3.5, 1.5, 2.5]
    assert lines["training"].get_linestyle() != lines["validation"].get_linestyle()
    assert lines["kept: epoch 2"].get_xdata() == [2, 2]
    (star,) = (line for line in display.ax_.lines if line.get_marker() == "*")
    assert star.get_xydata().tolist() == [[2, 1.5]]
    assert display.ax_.get_xlabel() == "Epoch"


def test_error_with_its_unit():
    ax = HistoryDisplay(HISTORY, best_epoch=2).plot(metric="valid_mae", unit="eV").ax_
    assert ax.get_ylabel() == "Validation MAE (eV)"
    assert lines_of(ax)["validation"].get_ydata().tolist() == [0.3, 0.1, 0.2]


def test_error_of_one_property():
    display = HistoryDisplay(HISTORY.assign(**{"valid_mae gap": [3, 2, 1]}))
    assert display.errors == ["valid_mae", "valid_mae gap"]
    assert display.plot(metric="valid_mae gap").ax_.get_ylabel() == "Validation MAE of gap"


def test_training_without_validation():
    ax = HistoryDisplay(HISTORY[["epoch", "train_loss"]], best_epoch=3).plot().ax_
    assert set(lines_of(ax)) == {"training", "kept: epoch 3"}


def test_epochs_that_diverged_leave_a_gap():
    ax = HistoryDisplay(HISTORY.assign(train_loss=[1.0, np.nan, np.inf])).plot().ax_
    assert np.isnan(lines_of(ax)["training"].get_ydata()[1])


def test_everything_lies_within_the_figure(fits, style):
    fits(HistoryDisplay(HISTORY, best_epoch=2).plot().figure_)


def test_given_axes_are_drawn_on():
    figure, ax = plt.subplots()
    display = HistoryDisplay(HISTORY).plot(ax)
    assert (display.ax_, display.figure_) == (ax, figure)


def test_real_estimator(NaCl):
    from matmosaic import TransferRegressor

    options = {
        "backbone_options": {"width": 8, "n_convolutions": 1},
        "max_epochs": 3,
        "validation_fraction": 0.5,
    }
    model = TransferRegressor(**options, random_state=0).fit([NaCl] * 4, [1.0, 2, 3, 4])
    lines = lines_of(HistoryDisplay.from_estimator(model).plot().ax_)
    assert len(lines["training"].get_ydata()) == 3
    assert f"kept: epoch {model.best_epoch_}" in lines


# --- misuse ------------------------------------------------------------------------------------------


def test_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError, match="Network instance is not fitted yet"):
        HistoryDisplay.from_estimator(Network())


@pytest.mark.parametrize(
    "estimator", [DummyRegressor().fit([[0]], [0]), Network, 3], ids=["dummy", "class", "number"]
)
def test_estimator_without_network_is_refused(estimator):
    with pytest.raises(InvalidParameterError, match="trains a network, such as TransferRegressor"):
        HistoryDisplay.from_estimator(estimator)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([1.0], "must be a DataFrame with 'train_loss'. Got list"),
        (HISTORY[["dur"]], r"Got \['dur'\]"),
        (HISTORY[:0], "no epoch was finished"),
    ],
    ids=["list", "column", "empty"],
)
def test_what_is_no_history_is_refused(history, message):
    with pytest.raises(InvalidParameterError, match=message):
        HistoryDisplay(history)


def test_unknown_metric_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean 'valid_mae'"):
        HistoryDisplay(HISTORY).plot(metric="valid_mea")
    assert plt.get_fignums() == []
