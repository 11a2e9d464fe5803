"""Columns as a regressor gets them."""

import numpy as np
import pytest

from matmosaic.exceptions import ConstantFeaturesWarning
from matmosaic.learning.preparation import LARGEST, prepare


@pytest.fixture
def columns(rng):
    """20 rows of two sources: three columns on unlike scales, and one."""
    return rng.normal(size=(20, 4)) * [1, 1e6, 1e-6, 5] + [0, 3, 0, -7]


SOURCES = ["a", "a", "a", "b"]


def test_sources_have_equal_weight(columns, rng):
    values = prepare(columns, SOURCES, rng.normal(size=20))(columns)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
    squares = (values**2).mean(axis=0)
    assert squares[:3].sum() == pytest.approx(squares[3])
    assert squares.mean() == pytest.approx(1)
    np.testing.assert_allclose(squares[:3], squares[0])


def test_what_is_not_known_becomes_the_mean(columns, rng):
    gappy = columns.copy()
    gappy[[0, 3], 1] = np.nan, np.inf
    preparation = prepare(gappy, SOURCES, rng.normal(size=20))
    known = np.isfinite(gappy[:, 1])
    assert preparation.mean[1] == pytest.approx(columns[known, 1].mean())
    assert preparation.std[1] == pytest.approx(columns[known, 1].std())
    assert preparation(gappy)[[0, 3], 1].tolist() == [0.0, 0.0]
    assert np.isfinite(preparation(np.full((1, 4), np.nan))).all()


def test_only_given_rows_are_looked_at(columns, rng):
    y = rng.normal(size=20)
    preparation = prepare(columns[:10], SOURCES, y[:10])
    columns[10:] *= 100
    np.testing.assert_array_equal(preparation.mean, prepare(columns[:10], SOURCES, y[:10]).mean)
    assert np.abs(preparation(columns)).max() <= LARGEST * preparation.factor.max()


def test_constant_and_unknown_columns_are_left_out(columns, rng):
    columns[:, 0], columns[:, 2] = 7.0 + 1e-9 * rng.normal(size=20), np.nan
    preparation = prepare(columns, SOURCES, rng.normal(size=20))
    assert preparation.kept.tolist() == [1, 3]


def test_constant_columns_alone_tell_nothing(columns, rng):
    columns[:, :2] = 7.0
    with pytest.warns(
        ConstantFeaturesWarning, match="All 2 features are constant over the 20 rows.*'p', 'q'"
    ):
        preparation = prepare(columns[:, :2], ["a", "a"], rng.normal(size=20), names=["p", "q"])
    assert preparation(rng.normal(size=(3, 2))).tolist() == [[0.0, 0.0]] * 3


def test_numbers_whose_squares_are_no_floats_are_left_out(columns, rng):
    columns[:, 1] = 10.0 ** rng.uniform(150, 300, 20)
    with pytest.warns(ConstantFeaturesWarning, match="Numbers of column 1 are too large"):
        preparation = prepare(columns, SOURCES, rng.normal(size=20))
    assert preparation.kept.tolist() == [0, 2, 3]
    assert np.isfinite(preparation.std).all()


def test_weights_are_repetitions(columns, rng):
    y = rng.normal(size=20)
    weight = rng.integers(1, 4, 20)
    weighted = prepare(columns, SOURCES, y, weight.astype(float))
    repeated = prepare(np.repeat(columns, weight, axis=0), SOURCES, np.repeat(y, weight))
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    np.testing.assert_allclose(weighted.std, repeated.std)


def test_principal_components(rng):
    base = rng.normal(size=(40, 2))
    columns = base @ rng.normal(size=(2, 6))
    preparation = prepare(columns, ["a"] * 6, rng.normal(size=40), reduction="pca")
    values = preparation(columns)
    assert values.shape == (40, 2)  # the others hold rounding alone
    np.testing.assert_allclose(values.T @ values, np.diag(np.diag(values.T @ values)), atol=1e-9)
    assert preparation.groups(np.arange(6)).tolist() == [0, 0]
    assert prepare(columns, ["a"] * 6, base[:, 0], reduction="pca", n_features=1)(columns).shape == (40, 1)


def test_selected_columns_are_balanced_anew(columns, rng):
    y = columns[:, 1] / 1e6 + columns[:, 3] / 5
    preparation = prepare(
        columns, SOURCES, y, reduction="relevance", n_features=2, rng=np.random.RandomState(0)
    )
    assert sorted(preparation.kept) == [1, 3]
    np.testing.assert_allclose((preparation(columns) ** 2).mean(axis=0), 1)
    assert preparation.groups(np.array([0, 0, 0, 1])).tolist() == [
        [0, 0, 0, 1][one] for one in preparation.kept
    ]
