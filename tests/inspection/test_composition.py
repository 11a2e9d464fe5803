import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from matmosaic.exceptions import DataFileError, InvalidParameterError
from matmosaic.inspection import CompositionWeightsDisplay, GateScoresDisplay


class Composed(BaseEstimator):
    """What of a fitted ComposedRegressor the display reads."""

    def __init__(self, **weights):
        self.module_names_ = list(weights)
        self.weights_ = np.array(list(weights.values()))


@pytest.fixture
def folds():
    return [Composed(eform=0.75, gap=0.25, volume=0), Composed(eform=1.0, gap=0, volume=0)]


def test_bars_of_one_task(folds):
    display = CompositionWeightsDisplay.from_estimator(folds)
    assert display.weights.loc[0].to_dict() == {"eform": 0.75, "gap": 0.25, "volume": 0}
    ax = display.plot().ax_
    assert [bar.get_width() for bar in ax.patches] == [0.875, 0.125, 0]
    assert ax.get_xlabel() == "Weight"
    assert "even share, 1/2" in {line.get_label() for line in ax.lines}


def test_heat_map_of_many_tasks():
    rows = [
        {"task": task, "seed": 0, "method": "composed", "weights": {"eform": share, "gap": 1 - share}}
        for task, share in (("phonons", 0.75), ("dielectric", 0.25))
    ]
    display = CompositionWeightsDisplay.from_results(pd.DataFrame(rows)).plot()
    assert display.ax_.images[0].get_array().tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert [ax.get_ylabel() for ax in display.figure_.axes if ax is not display.ax_] == ["Weight"]


def test_document_of_evaluate():
    folds = [{"mae": 1.0, "weights": {"a": 0.5, "b": 0.5}}, {"mae": 1.0, "weights": {"a": 1.0, "b": 0.0}}]
    rows = [
        {"method": "composed", "module": None, "folds": folds},
        {"method": "ridge", "folds": [{"mae": 2.0}]},
    ]
    weights = CompositionWeightsDisplay.from_results({"target": "gap", "rows": rows}).weights
    assert weights.to_dict("index") == {"gap": {"a": 0.75, "b": 0.25}}


def test_displays_are_not_mixed_up(folds):
    with pytest.raises(InvalidParameterError, match="must be a fitted MoERegressor.* Got Composed"):
        GateScoresDisplay.from_estimator(folds)
    rows = pd.DataFrame({"task": "gap", "seed": 0, "method": "moe", "gate_scores": [{"a": 1.0}]})
    with pytest.raises(DataFileError, match="must have a column 'weights'"):
        CompositionWeightsDisplay.from_results(rows)


def test_weights_must_sum_to_one():
    with pytest.raises(InvalidParameterError, match="'weights' must be >= 0 and sum to 1 .* Row 0"):
        CompositionWeightsDisplay(pd.DataFrame({"a": [0.5]}))
