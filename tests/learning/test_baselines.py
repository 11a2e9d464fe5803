import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matmosaic.learning import baselines
from matmosaic.learning.baselines import LinearBaseline, fit_baselines

NAMES = ["gaps", "headless", "moduli"]


@pytest.fixture
def features(rng):
    return rng.normal(size=(30, 8)) * rng.uniform(0.1, 10, 8) + rng.normal(0, 5, 8)


@pytest.fixture
def y(rng, features):
    return features @ rng.normal(size=8) / 5 + rng.normal(size=30)


@pytest.fixture
def predictions(rng, y):
    """Of three modules in units of their own, the second without a head."""
    return np.stack([0.01 * y + 0.02 * rng.normal(size=30), np.full(30, np.nan), 200 - 50 * y], axis=1)


def fitted(*args, **options):
    return {baseline.name: baseline for baseline in fit_baselines(*args, module_names=NAMES, **options)}


def test_names_and_shapes(features, predictions, y):
    found = fitted(features, predictions, y)
    assert list(found) == ["median", "zero-shot gaps", "zero-shot moduli", "ridge"]
    for baseline in found.values():
        assert (baseline.feature_coef.shape, baseline.prediction_coef.shape) == ((8,), (3,))
        assert isinstance(baseline.intercept, float)
        assert np.isfinite(baseline.predict(features, predictions)).all()


@pytest.mark.parametrize("n_rows", [29, 30])
def test_median(features, predictions, y, n_rows):
    median = fitted(features[:n_rows], predictions[:n_rows], y[:n_rows])["median"]
    np.testing.assert_allclose(median.predict(features, predictions), np.median(y[:n_rows]))


@pytest.mark.parametrize("name", ["zero-shot gaps", "zero-shot moduli"])
@pytest.mark.parametrize("weighted", [False, True])
def test_zero_shot_is_the_least_squares_line(features, predictions, y, rng, name, weighted):
    weight = rng.uniform(0, 2, 30) if weighted else None
    column = predictions[:, [0 if "gaps" in name else 2]]
    line = LinearRegression().fit(column, y, sample_weight=weight)
    baseline = fitted(features, predictions, y, weight=weight)[name]
    np.testing.assert_allclose(baseline.predict(features, predictions), line.predict(column))
    assert not baseline.feature_coef.any()


@pytest.mark.parametrize("noise", [0.0, 1e-5], ids=["exact", "rounded"])
def test_constant_predictions_give_the_mean(features, predictions, y, rng, noise):
    predictions[:, 0] = 100 + noise * rng.normal(size=30)  # what single precision leaves of a constant
    baseline = fitted(features, predictions, y)["zero-shot gaps"]
    assert not baseline.prediction_coef.any()
    assert baseline.intercept == pytest.approx(y.mean())


@pytest.mark.parametrize("n_rows", [30, 5], ids=["n > n_features", "n < n_features"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_that_of_scikit_learn(features, predictions, y, rng, n_rows, weighted):
    features, predictions, y = features[:n_rows], predictions[:n_rows], y[:n_rows]
    weight = rng.uniform(0.1, 2, n_rows) if weighted else None
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 6, 11)))
    ridge.fit(features, y, standardscaler__sample_weight=weight, ridgecv__sample_weight=weight)
    baseline = fitted(features, predictions, y, weight=weight)["ridge"]
    np.testing.assert_allclose(
        baseline.predict(features, predictions), ridge.predict(features), rtol=1e-7, atol=1e-9
    )
    assert not baseline.prediction_coef.any()


def test_penalty_has_the_least_leave_one_out_error(features, predictions, y, rng):
    """By leaving rows out one after the other."""
    y = y + 5 * rng.normal(size=30)
    scaled = StandardScaler().fit_transform(features)

    def error(alpha):
        rows = np.arange(30)
        left_out = [
            Ridge(alpha).fit(scaled[rows != row], y[rows != row]).predict(scaled[[row]])[0] for row in rows
        ]
        return np.mean((left_out - y) ** 2)

    best = min(np.logspace(-4, 6, 11), key=error)
    assert 1e-4 < best < 1e6
    expected = Ridge(best).fit(scaled, y).predict(scaled)
    np.testing.assert_allclose(
        fitted(features, predictions, y)["ridge"].predict(features, predictions), expected
    )


def test_weights_are_repetitions(features, predictions, y, rng, monkeypatch):
    """For one penalty: which is best depends on what is left out, a row or one of its copies."""
    monkeypatch.setattr(baselines, "RIDGE_ALPHAS", [3.0])
    weight = rng.integers(0, 4, 30)
    weighted = fitted(features, predictions, y, weight=weight)
    repeated = fitted(*(np.repeat(values, weight, axis=0) for values in (features, predictions, y)))
    for name, baseline in weighted.items():
        expected = repeated[name].predict(features, predictions)
        np.testing.assert_allclose(baseline.predict(features, predictions), expected)


def test_rows_of_weight_zero_are_absent(features, predictions, y):
    weight = np.arange(30) % 3
    used = weight > 0
    features[0], predictions[0], y[0] = 1e6, np.nan, -1e6
    weighted = fitted(features, predictions, y, weight=weight)
    alone = fitted(features[used], predictions[used], y[used], weight=weight[used])
    assert list(weighted) == list(alone)
    for name, baseline in weighted.items():
        expected = alone[name].predict(features[1:], predictions[1:])
        np.testing.assert_allclose(baseline.predict(features[1:], predictions[1:]), expected)


def test_constant_features_are_not_used(features, predictions, y, rng):
    constant = np.stack([np.zeros(30), np.full(30, 0.1), 100 + 1e-5 * rng.normal(size=30)], axis=1)
    padded = fitted(np.hstack([features, constant]), predictions, y)["ridge"]
    np.testing.assert_allclose(
        padded.feature_coef[:8], fitted(features, predictions, y)["ridge"].feature_coef
    )
    assert not padded.feature_coef[8:].any()


def test_features_that_are_all_constant_give_the_mean(predictions, y):
    ridge = fitted(np.ones((30, 8)), predictions, y)["ridge"]
    np.testing.assert_allclose(ridge.predict(np.ones((30, 8)), predictions), y.mean())


def test_modules_that_are_not_used_are_not_read(features, predictions, y):
    found = fitted(features, predictions, y)
    unknown = np.full_like(predictions, np.nan)
    for name in ("median", "ridge"):
        assert np.isfinite(found[name].predict(features, unknown)).all()
    assert np.isnan(found["zero-shot gaps"].predict(features, unknown)).all()


def test_no_module_has_a_head(features, y):
    assert list(fitted(features, np.full((30, 3), np.nan), y)) == ["median", "ridge"]


def test_inputs_are_not_changed(features, predictions, y):
    copies = [values.copy() for values in (features, predictions, y)]
    fitted(features, predictions, y, weight=np.ones(30))
    for values, copy in zip((features, predictions, y), copies, strict=True):
        np.testing.assert_array_equal(values, copy)


def test_saved_arrays_are_all_there_is(features, predictions, y):
    baseline = fitted(features, predictions, y)["ridge"]
    again = LinearBaseline(
        "ridge", baseline.feature_coef.copy(), baseline.prediction_coef.copy(), baseline.intercept
    )
    np.testing.assert_array_equal(
        again.predict(features, predictions), baseline.predict(features, predictions)
    )
