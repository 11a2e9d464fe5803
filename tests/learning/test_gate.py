import math

import numpy as np
import pytest
import torch

from matmosaic.learning.gate import Gate


def gate(scores, n_active):
    return Gate(torch.tensor(scores), n_active)


def test_weights_are_a_softmax_of_the_scores_that_are_kept():
    kept = gate([0.0, 2.0, 1.0, 3.0], n_active=3)
    total = math.exp(2) + math.exp(1) + math.exp(3)
    expected = [0.0, math.exp(2) / total, math.exp(1) / total, math.exp(3) / total]
    assert kept.active() == [1, 2, 3]
    assert kept(kept.active()).tolist() == pytest.approx(expected[1:])
    assert kept.all_weights().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "n_active", "active"),
    [
        ([1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.0, 5.0, 5.0, 5.0], 2, [1, 2]),
        ([3.0, 1.0, 2.0], 1, [0]),
        ([1.0, 3.0, 2.0], 2, [1, 2]),
        ([1.0, 3.0, 2.0], 3, [0, 1, 2]),
        ([7.0], 1, [0]),
    ],
)
def test_the_largest_scores_are_active_and_the_first_win_a_tie(scores, n_active, active):
    assert gate(scores, n_active).active() == active


def test_many_equal_scores_are_a_tie_too():
    """Sorting algorithms differ between few and many values."""
    assert gate([1.0] * 200, 3).active() == [0, 1, 2]


@pytest.mark.parametrize(("weights", "expected"), [([1.0], 0.0), ([0.5, 0.5], 0.25), ([0.2, 0.8], 0.1024)])
def test_penalty_is_the_squared_distance_of_the_norm_from_one(weights, expected):
    scores = [*np.log(weights), -50.0]  # the last is not active
    assert gate(scores, len(weights)).penalty().item() == pytest.approx(expected, abs=1e-6)


def test_gradient_reaches_active_scores_alone():
    kept = gate([0.5, 2.0, 1.0, 3.0], n_active=2)
    (kept(kept.active()) @ torch.tensor([1.0, 5.0]) + kept.penalty()).backward()
    grad = kept.scores.grad
    assert grad[[0, 2]].tolist() == [0, 0]
    assert (grad[[1, 3]] != 0).all()


def test_gradient_of_the_penalty_favours_the_heavier_expert():
    kept = gate([1.0, 2.0], n_active=2)
    kept.penalty().backward()
    assert kept.scores.grad[1] < 0 < kept.scores.grad[0]


def test_scores_are_copied():
    scores = torch.ones(3)
    kept = Gate(scores, 2)
    kept.start_from(np.array([1.0, 4.0, 9.0]))
    assert scores.tolist() == [1, 1, 1]
    assert kept.scores.tolist() == [1, 4, 9]
    assert kept.scores.requires_grad
    assert kept.active() == [1, 2]
