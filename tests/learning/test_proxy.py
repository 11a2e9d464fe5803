import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.learning.proxy import knn_proxy


@pytest.fixture
def features(rng):
    """Positive, like those behind a softplus."""
    return np.log1p(np.exp(rng.normal(size=(40, 6))))


@pytest.fixture
def y(rng):
    return rng.normal(3, 2, 40)


def loop(features, y, *, n_neighbors, temperature, weight):
    """The same by one row after the other."""
    predicted = []
    for row in range(len(y)):
        others = [other for other in range(len(y)) if other != row]
        cosine = {
            other: features[row]
            @ features[other]
            / np.sqrt((features[row] ** 2).sum() * (features[other] ** 2).sum())
            for other in others
        }
        nearest = sorted(others, key=lambda other: -cosine[other])[:n_neighbors]
        shares = [weight[other] * np.exp(cosine[other] / temperature) for other in nearest]
        predicted.append(np.average(y[nearest], weights=shares))
    return np.array(predicted)


# --- nearest neighbours ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_neighbors", [1, 5, 39, 100])
@pytest.mark.parametrize("temperature", [0.02, 0.2, 5.0])
def test_proxy_is_that_of_a_loop(features, y, rng, n_neighbors, temperature):
    weight = rng.uniform(0.1, 3, 40)
    options = {"n_neighbors": n_neighbors, "temperature": temperature, "weight": weight}
    predicted = knn_proxy(features, y, standardize=False, **options)
    np.testing.assert_allclose(predicted, loop(features, y, **options))


def test_proxy_agrees_with_scikit_learn(features, y):
    def share(distances):
        return np.exp((1 - distances) / 0.2)

    predicted = knn_proxy(features, y, standardize=False)
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        model = KNeighborsRegressor(5, metric="cosine", weights=share).fit(features[others], y[others])
        assert predicted[row] == pytest.approx(model.predict(features[[row]])[0])


def test_standardised_features_are_the_default(features, y):
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(knn_proxy(features, y), knn_proxy(scaled, y, standardize=False))
    np.testing.assert_allclose(knn_proxy(features, y), knn_proxy(7 + 3 * features, y))
    assert not np.allclose(knn_proxy(features, y), knn_proxy(features, y, standardize=False))


@pytest.mark.parametrize("block_size", [1, 7, 39, 40, 41])
def test_blocks_change_nothing(features, y, block_size):
    np.testing.assert_allclose(
        knn_proxy(features, y, block_size=block_size), knn_proxy(features, y, block_size=1000), rtol=1e-12
    )


def test_own_label_is_not_used(features, y):
    changed = y.copy()
    changed[3] = 1e6
    assert knn_proxy(features, changed)[3] == knn_proxy(features, y)[3]


def test_order_of_rows_does_not_matter_even_with_duplicates(features, y, rng):
    features = np.repeat(features[:10], 4, axis=0)  # three twins and ties for the other two places
    order = rng.permutation(40)
    for standardize in (False, True):
        predicted = knn_proxy(features, y, standardize=standardize)
        shuffled = knn_proxy(features[order], y[order], standardize=standardize)
        np.testing.assert_allclose(shuffled, predicted[order])


def test_ties_are_not_broken_by_rounding(features, y, rng):
    features = np.repeat(features[:4], 10, axis=0)  # nine twins for five places
    scaled = features * rng.uniform(0.1, 10, (40, 1))  # the same directions, but for the last digits
    expected = knn_proxy(features, y, standardize=False)
    np.testing.assert_allclose(knn_proxy(scaled, y, standardize=False), expected)


def test_neighbours_closer_than_single_precision():
    angles = np.concatenate([[0.0], 0.5 + 1e-8 * np.arange(40)])
    features = np.column_stack([np.cos(angles), np.sin(angles)])
    y = np.arange(-1.0, 40.0)
    predicted = knn_proxy(features, y, n_neighbors=3, temperature=1.0, standardize=False)
    assert predicted[0] == pytest.approx(1.0)  # the mean of 0, 1 and 2, which are nearest


def test_many_rows_agree_with_scikit_learn(rng):
    features, y = rng.normal(size=(2000, 24)), rng.normal(size=2000)
    predicted = knn_proxy(features, y, n_neighbors=7, temperature=1e9, standardize=False)
    model = KNeighborsRegressor(8, metric="cosine").fit(features, y)
    others = (8 * model.predict(features) - y) / 7  # itself is among its nearest
    np.testing.assert_allclose(predicted, others, atol=1e-6)


def test_ties_share_the_places():
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    y = np.array([0.0, 1.0, 2.0, 3.0, 7.0])
    predicted = knn_proxy(features, y, n_neighbors=2, temperature=1.0, standardize=False)
    assert predicted[0] == pytest.approx((np.e * 1 + 4) / (np.e + 1))  # the twin, and the three others' mean


@pytest.mark.parametrize("standardize", [False, True])
def test_features_that_say_nothing_give_the_mean_of_the_others(y, standardize):
    for features in (np.zeros((40, 3)), np.full((40, 3), 0.1)):
        predicted = knn_proxy(features, y, standardize=standardize)
        np.testing.assert_allclose(predicted, (y.sum() - y) / 39)


def test_row_of_zeros(features, y):
    features[4] = 0
    predicted = knn_proxy(features, y, standardize=False)
    assert predicted[4] == pytest.approx(np.delete(y, 4).mean())
    np.testing.assert_allclose(
        np.delete(predicted, 4), knn_proxy(np.delete(features, 4, axis=0), np.delete(y, 4), standardize=False)
    )


@pytest.mark.parametrize("n_rows", [2, 3, 5, 6])
def test_few_rows_use_all_others(features, y, n_rows):
    features, y = features[:n_rows], y[:n_rows]
    predicted = knn_proxy(features, y, n_neighbors=5, temperature=1e9)
    np.testing.assert_allclose(predicted, (y.sum() - y) / (n_rows - 1), rtol=1e-6)


def test_low_temperature_gives_the_nearest_label(features, y):
    np.testing.assert_allclose(
        knn_proxy(features, y, temperature=1e-9), knn_proxy(features, y, n_neighbors=1)
    )


@pytest.mark.parametrize("standardize", [False, True])
def test_rows_of_weight_zero_are_absent(features, y, standardize):
    weight = np.ones(40)
    weight[::3] = 0
    used = weight > 0
    predicted = knn_proxy(features, y, weight=weight, standardize=standardize)
    alone = knn_proxy(features[used], y[used], standardize=standardize)
    np.testing.assert_allclose(predicted[used], alone)
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 0}, "'n_neighbors' must be above 0. Got 0"),
        ({"temperature": 0.0}, "'temperature' must be above 0"),
        ({"temperature": np.nan}, "'temperature' must be above 0. Got nan"),
        ({"block_size": -1}, "'block_size' must be above 0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_parameters(features, y, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        knn_proxy(features, y, **options)


def test_features_that_are_not_finite(features, y):
    features[2, 1] = np.nan
    with pytest.raises(
        InvalidParameterError, match=r"The features must be finite. Got nan in row 2, column 1 \(1"
    ):
        knn_proxy(features, y)
    with pytest.raises(InvalidParameterError, match="The features of 'a' must be finite"):
        knn_proxy(features, y, name="features of 'a'")


def test_one_row_has_no_neighbour(features, y):
    with pytest.raises(InvalidTargetsError, match="at least 2 rows .* Got 1. Give more rows"):
        knn_proxy(features[:1], y[:1])
    with pytest.raises(InvalidTargetsError, match="Got 1"):
        knn_proxy(features, y, weight=np.arange(40) == 3)
