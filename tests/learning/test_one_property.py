import numpy as np
import pytest
import torch

from matmosaic.backbones import MLP
from matmosaic.exceptions import InvalidTargetsError
from matmosaic.learning import OneProperty, TargetScale
from matmosaic.learning.sampling import balancing_probabilities

TASK = OneProperty("volume")
Y = np.arange(20.0)


def test_labels_are_one_column():
    assert TASK.read(Y[:, None], 20).shape == (20, *TASK.shape)
    with pytest.raises(InvalidTargetsError, match="y_val"):
        TASK.read(Y, 19, name="y_val")


def test_scale_is_that_of_the_labels():
    assert TASK.scale(Y, Y) == TargetScale.of(Y, Y)
    scale = TargetScale(1.0, 2.0, "log")
    assert TASK.of_card([{"target_transform": scale.to_card()}]) == scale


def test_head_gives_one_column():
    head = MLP(3)
    assert TASK.join([head]) is head
    outputs = TASK.outputs(torch.tensor([[1.0], [2.0]]))
    assert (outputs.tolist(), outputs.dtype) == ([1, 2], np.float64)
    assert TASK.named(outputs, index=[5, 6]) is outputs
    assert TASK.names is None


@pytest.mark.parametrize(("fraction", "n_held"), [(0.15, 3), (0.5, 9), (0, 0)])
def test_rows_are_held_out_at_random(fraction, n_held):
    rows = np.arange(2, 20)
    held = [TASK.hold_out(Y, rows, fraction, np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert [len(one) for one in held] == [n_held] * 3
    assert set(held[0]) <= set(rows)
    assert held[0].tolist() == sorted(held[0]) == held[1].tolist()
    assert fraction == 0 or held[0].tolist() != held[2].tolist()


def test_too_few_rows_are_refused():
    with pytest.raises(
        InvalidTargetsError, match="'X' has 20 rows, and validation_fraction=0.95 takes 19 of"
    ):
        TASK.hold_out(Y, np.arange(20), 0.95, np.random.RandomState(0))
    with pytest.raises(InvalidTargetsError, match="'X' has 2 rows of weight > 0, and"):
        TASK.hold_out(Y, np.arange(2), 0.15, np.random.RandomState(0))


def test_balanced_sampling_on_request():
    assert TASK.probabilities(Y[:, None], balanced=False) is None
    np.testing.assert_array_equal(TASK.probabilities(Y[:, None], balanced=True), balancing_probabilities(Y))
