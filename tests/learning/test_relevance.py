"""Selection of columns by relevance and redundancy."""

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_regression

from matmosaic.learning.relevance import _Binned, most_relevant


@pytest.fixture
def values(rng):
    return rng.normal(size=(300, 8))


def test_relevant_columns_come_first_and_copies_late(values, rng):
    values[:, 1] = values[:, 0] + 0.01 * rng.normal(size=300)
    y = values[:, 0] + 0.5 * values[:, 5] ** 2
    order = most_relevant(values, y, 8, rng=np.random.RandomState(0)).tolist()
    assert sorted(order) == list(range(8))
    first, second = order[:2]
    assert first in (0, 1)
    assert second == 5
    assert order.index(1 - first) > 2


def test_the_first_is_that_of_largest_mutual_information(values):
    y = np.sin(values[:, 3]) + 0.1 * values[:, 2]
    information = mutual_info_regression(values, y, random_state=0)
    assert most_relevant(values, y, 1, rng=np.random.RandomState(0)).tolist() == [int(information.argmax())]


def test_fewer_columns_than_asked_for_are_all_taken(values):
    y = values[:, 0]
    assert sorted(most_relevant(values, y, 20, rng=np.random.RandomState(0))) == list(range(8))


@pytest.mark.parametrize("n_rows", [2, 3, 10])
def test_few_rows(n_rows, values):
    chosen = most_relevant(values[:n_rows], values[:n_rows, 0], 3, rng=np.random.RandomState(0))
    assert len(set(chosen.tolist())) == 3


def test_redundancy_is_1_of_itself_and_near_0_of_strangers(values):
    values[:, 1] = np.exp(values[:, 0])  # the same ranks
    shared = _Binned(values).information_with(0)
    assert shared[0] == pytest.approx(shared[1])
    assert shared[0] > 0.9
    assert shared[2:].max() < 0.1


def test_columns_of_few_values(values):
    values[:, 2] = values[:, 0] > 0
    values[:, 3] = 0.0
    shared = _Binned(values).information_with(2)
    assert np.isfinite(shared).all()
    assert shared[3] == 0
    assert shared[0] > 5 * shared[4:].max()
