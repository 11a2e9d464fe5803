"""Regressors by name, and those of a user."""

import pytest
from sklearn.linear_model import Ridge

from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning.regressors import REGRESSORS, make_regressor


@pytest.mark.parametrize("name", [None, *REGRESSORS])
def test_named_regressors_learn(name, rng):
    X = rng.normal(size=(20, 2))
    assert make_regressor(name, 0).fit(X, X[:, 0]).predict(X).shape == (20,)


def test_regressors_are_cloned():
    mine = Ridge(3.0)
    got = make_regressor(mine, 0)
    assert got is not mine
    assert got.alpha == 3.0


@pytest.mark.parametrize(
    "estimator", [5, Ridge, [], {"svr": 1}, object()], ids=["number", "class", "list", "dict", "object"]
)
def test_what_is_no_regressor_is_refused(estimator):
    with pytest.raises(InvalidParameterError, match="'estimator' must be None, one of 'svr'"):
        make_regressor(estimator, 0)
