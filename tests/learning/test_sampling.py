import numpy as np
import pytest

from matmosaic.learning.sampling import balancing_probabilities


def test_thirty_full_bins_have_equal_chances(rng):
    y = np.concatenate([np.linspace(0, 30, 31), rng.uniform(0, 3, 500)])
    probabilities = balancing_probabilities(y)
    bins = np.minimum(y.astype(int), 29)
    chances = np.bincount(bins, weights=probabilities)
    np.testing.assert_allclose(chances, np.full(30, 1 / 30))
    assert probabilities.sum() == pytest.approx(1)


def test_empty_bins_get_nothing():
    probabilities = balancing_probabilities(np.array([0.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(probabilities, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_number_of_bins():
    y = np.array([0.0, 0.1, 0.9, 1.0])
    np.testing.assert_allclose(balancing_probabilities(y, n_bins=2), np.full(4, 0.25))


def test_equal_labels_are_equally_likely():
    np.testing.assert_allclose(balancing_probabilities(np.full(5, 3.0)), np.full(5, 0.2))
