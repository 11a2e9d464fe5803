import numpy as np

from matmosaic.learning.columns import column_scale, moments


def test_weighted_scale_is_that_of_repeated_rows(rng):
    values, weight = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    repeated = np.repeat(values, weight, axis=0)
    mean, std = column_scale(values, weight)
    np.testing.assert_allclose(mean, repeated.mean(axis=0))
    np.testing.assert_allclose(std, repeated.std(axis=0))


def test_columns_that_vary_by_rounding_alone_are_dropped(rng):
    noise = rng.normal(size=50)
    values = np.stack([noise, 1e3 + 1e-5 * noise, 1e-8 * noise, np.zeros(50), 1e3 + noise], axis=1)
    _, std = column_scale(values)
    assert np.isfinite(std).tolist() == [True, False, False, False, True]


def test_moments_are_those_of_what_is_known(rng):
    values, weight = rng.normal(size=(20, 3)), rng.uniform(1, 2, 20)
    values[:5, 0], values[:, 2] = [np.nan, np.inf, -np.inf, np.nan, np.nan], np.nan
    mean, std = moments(values, weight)
    expected = np.average(values[5:, 0], weights=weight[5:])
    spread = np.sqrt(np.average((values[5:, 0] - expected) ** 2, weights=weight[5:]))
    np.testing.assert_allclose([mean[0], std[0]], [expected, spread])
    assert (mean[2], std[2]) == (0, 0)
