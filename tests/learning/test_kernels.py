"""Kernels, the scale of labels, and regression by them."""

import pickle

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVR

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.learning import kernel_search, process
from matmosaic.learning.evidence import Hyperparameters, _Evidence, most_likely
from matmosaic.learning.kernel_search import KernelRegressor, fit_ridge
from matmosaic.learning.kernels import LabelScale, SourceKernel
from matmosaic.learning.process import SourceProcess

ONES = np.ones


@pytest.fixture
def data(rng):
    """80 rows of two sources of three columns, of which the first one counts."""
    X = rng.normal(size=(80, 6))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] + 0.05 * rng.normal(size=80)


SOURCES = [0, 0, 0, 1, 1, 1]


# --- kernels and labels ------------------------------------------------------------------------------


def test_kernel_is_a_gaussian_and_an_inner_product(rng):
    values, others = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    kernel = SourceKernel(2.0, np.array([1.0, 0.5, 0.0]), np.array([0.0, 1.0, 3.0]))
    expected = (
        2
        * np.exp(-((values[:, None, 0] - others[None, :, 0]) ** 2))
        * np.exp(-0.25 * (values[:, None, 1] - others[None, :, 1]) ** 2)
        + (values[:, 1:] * [1, 9]) @ others[:, 1:].T
    )
    np.testing.assert_allclose(kernel(values, others), expected)
    np.testing.assert_allclose(kernel.diagonal(values), np.diag(kernel(values, values)))


@pytest.mark.parametrize("transform", ["identity", "log"])
def test_label_scale_is_undone(transform, rng):
    y = np.exp(rng.normal(size=50)) - 3
    scale = LabelScale.of(y, ONES(50), transform)
    learnt = scale.apply(y)
    assert (learnt.mean(), learnt.std()) == pytest.approx((0, 1))
    np.testing.assert_allclose(scale.undo(learnt), y)
    slope = (scale.undo(learnt + 1e-6) - scale.undo(learnt - 1e-6)) / 2e-6
    np.testing.assert_allclose(scale.stretch(learnt), slope, rtol=1e-6)


def test_logarithms_make_skewed_labels_even(rng):
    y = np.exp(2 * rng.normal(size=200))
    skew = [float((LabelScale.of(y, ONES(200), one).apply(y) ** 3).mean()) for one in ("identity", "log")]
    assert abs(skew[1]) < 0.3 * skew[0]


def test_no_logarithm_where_half_of_the_labels_are_the_smallest():
    y = np.array([0.0, 0, 0, 1, 2])
    assert LabelScale.of(y, ONES(5), "log") == LabelScale.of(y, ONES(5), "identity")


# --- search by cross-validation ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["svr", "kernel_ridge"])
def test_search_predicts_as_scikit_learn_with_what_it_chose(method, data):
    X, y = data
    model = KernelRegressor(method, transforms=("identity",), random_state=0).fit(X, y)
    gamma, penalty = model.expansion_.kernel.scales[0] ** 2, model.best_params_["penalty"]
    labels = (y - y.mean()) / y.std()
    same = {
        "svr": SVR(C=penalty, gamma=gamma, epsilon=kernel_search.EPSILON),
        "kernel_ridge": KernelRidge(kernel="rbf", alpha=penalty, gamma=gamma),
    }[method]
    expected = same.fit(X, labels).predict(X + 0.1) * y.std() + y.mean()
    np.testing.assert_allclose(model.predict(X + 0.1), expected, atol=2e-3)  # of libsvm
    assert -np.abs(y - y.mean()).mean() < model.best_score_ < 0


def test_search_is_reproducible_and_uses_all_rows(data, monkeypatch):
    X, y = data
    monkeypatch.setattr(kernel_search, "MAX_SEARCH_ROWS", 30)
    models = [KernelRegressor("kernel_ridge", random_state=0).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(*[model.predict(X) for model in models])
    assert len(models[0].expansion_.rows) == 80


def test_search_takes_logarithms_of_skewed_labels(data):
    X, y = data
    assert KernelRegressor(random_state=0).fit(X, np.exp(3 * y)).best_params_["transform"] == "log"
    assert KernelRegressor(random_state=0).fit(X, y).best_params_["transform"] == "identity"


@pytest.mark.parametrize("make", [KernelRegressor, SourceProcess])
@pytest.mark.parametrize("n_rows", [2, 3, 5])
def test_few_rows(make, n_rows, data):
    X, y = data
    assert np.isfinite(make(random_state=0).fit(X[:n_rows], y[:n_rows]).predict(X)).all()


def test_equal_rows(data):
    _, y = data
    for make in (KernelRegressor, SourceProcess):
        predicted = make(random_state=0).fit(np.zeros((80, 3)), y).predict(np.zeros((2, 3)))
        np.testing.assert_allclose(predicted, np.median(y), atol=0.5)


def test_ridge_takes_weights_as_repetitions(data, rng):
    X, y = data
    X, y = X[:20], y[:20]
    weight = rng.integers(1, 4, 20)
    kernel = SourceKernel(1.0, np.full(6, np.sqrt(0.1)), np.zeros(6))
    dual, _ = fit_ridge(kernel(X, X), y, weight.astype(float), 0.1)
    repeated = np.repeat(X, weight, axis=0)
    other, _ = fit_ridge(kernel(repeated, repeated), np.repeat(y, weight), ONES(len(repeated)), 0.1)
    np.testing.assert_allclose(kernel(X, X) @ dual, kernel(X, repeated) @ other, atol=1e-8)


# --- a process with weights of sources ---------------------------------------------------------------


@pytest.fixture
def parts(data):
    X, y = data
    labels = (y - y.mean()) / y.std()
    return [X[:, :3] / np.sqrt(3), X[:, 3:] / np.sqrt(3)], labels


def test_gradient_of_the_evidence(parts, rng):
    evidence = _Evidence(*parts, rng.uniform(0.5, 2, 80))
    logs = Hyperparameters.start(2).logs + 0.3 * rng.normal(size=6)
    expected = approx_fprime(logs, lambda one: evidence(one)[0], 1e-6)
    np.testing.assert_allclose(evidence(logs)[1], expected, rtol=1e-4, atol=1e-5)


def test_evidence_is_that_of_scikit_learn(parts):
    (one, other), labels = parts
    logs = Hyperparameters.start(2).logs  # where the prior is 0
    now = Hyperparameters(logs)
    assert now.distances[0] == now.distances[1]
    kernel = ConstantKernel(now.amplitude) * RBF(now.distances[0] ** -0.5)
    kernel += ConstantKernel(now.slopes[0]) * DotProduct(0.0, "fixed") + WhiteKernel(now.noise)
    same = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(np.hstack([one, other]), labels)
    constant = 0.5 * 80 * np.log(2 * np.pi)
    expected = -(same.log_marginal_likelihood_value_ + constant) / 80
    assert _Evidence([one, other], labels, ONES(80))(logs)[0] == pytest.approx(expected)


def test_most_likely_weights_tell_the_source_that_counts(parts):
    start = Hyperparameters.start(2)
    found = most_likely(*parts, ONES(80), start, n_steps=30)
    evidence = _Evidence(*parts, ONES(80))
    assert evidence(found.logs)[0] < evidence(start.logs)[0]
    assert found.distances[0] > 20 * found.distances[1]


def test_process_weighs_sources_and_is_better_for_it(data):
    X, y = data
    plain, weighed = (SourceProcess(s, random_state=0).fit(X[:50], y[:50]) for s in (None, SOURCES))
    errors = [np.abs(one.predict(X[50:]) - y[50:]).mean() for one in (plain, weighed)]
    assert errors[1] < errors[0]
    assert weighed.source_weights_.sum() == pytest.approx(1)
    assert weighed.source_weights_[0] > 0.9
    assert plain.source_weights_.tolist() == [1.0]


def test_process_without_outliers_is_that_of_scikit_learn(data, monkeypatch):
    monkeypatch.setattr(process, "CLIP", np.inf)
    X, y = data
    model = SourceProcess(svr=False, transforms=("identity",)).fit(X[:50], y[:50])
    kernel = model.expansion_.kernel
    labels = model.expansion_.labels.apply(y[:50])
    gram = kernel(X[:50], X[:50]) + model.noise_ * np.eye(50)
    test = kernel(X[50:], X[:50])
    mean, std = model.predict(X[50:], return_std=True)
    scale = y[:50].std()
    np.testing.assert_allclose(mean, test @ np.linalg.solve(gram, labels) * scale + y[:50].mean())
    variance = kernel.diagonal(X[50:]) + model.noise_ - (test * np.linalg.solve(gram, test.T).T).sum(axis=1)
    np.testing.assert_allclose(std, scale * np.sqrt(variance), rtol=1e-6)


def test_score_is_the_error_of_rows_left_out(data, monkeypatch):
    monkeypatch.setattr(process, "CLIP", np.inf)
    X, y = data
    model = SourceProcess(SOURCES, svr=False, transforms=("identity",)).fit(X, y)
    kernel, labels = model.expansion_.kernel, model.expansion_.labels
    gram = kernel(X, X) + model.noise_ * np.eye(80)
    left_out = [
        gram[row, rest] @ np.linalg.solve(gram[np.ix_(rest, rest)], labels.apply(y)[rest])
        for row in range(80)
        for rest in [np.delete(np.arange(80), row)]
    ]
    assert model.best_score_ == pytest.approx(-np.abs(labels.undo(np.array(left_out)) - y).mean())


def test_outliers_do_little_harm(data, monkeypatch):
    X, y = data
    y = y.copy()
    y[:4] += 30.0

    def error():
        model = SourceProcess(SOURCES, svr=False, transforms=("identity",)).fit(X[:60], y[:60])
        return np.abs(model.predict(X[60:]) - y[60:]).mean()

    robust = error()
    monkeypatch.setattr(process, "CLIP", np.inf)
    assert robust < 0.5 * error()


def test_support_vectors_count_half(data):
    X, y = data
    alone = SourceProcess(SOURCES, svr=False, random_state=0).fit(X, y)
    both = SourceProcess(SOURCES, random_state=0).fit(X, y)
    labels = both.expansion_.labels.apply(y)
    kernel = both.expansion_.kernel
    svr = SVR(kernel="precomputed", C=both.best_params_["C"], epsilon=both.best_params_["epsilon"])
    expected = svr.fit(kernel(X, X), labels).predict(kernel(X[:9], X))
    mean = (expected + alone.expansion_.learnt(X[:9])) / 2
    np.testing.assert_allclose(both.expansion_.learnt(X[:9]), mean, atol=1e-8)


def test_std_covers_the_errors(data):
    X, y = data
    mean, std = SourceProcess(SOURCES, svr=False).fit(X[:50], y[:50]).predict(X[50:], return_std=True)
    assert (np.abs(mean - y[50:]) < 2 * std).mean() > 0.7
    far = SourceProcess(SOURCES, svr=False).fit(X[:50], y[:50]).predict(X[50:] + 10, return_std=True)[1]
    assert (far > std).all()


def test_process_searches_with_some_rows_and_fits_all(data, monkeypatch):
    X, y = data
    monkeypatch.setattr(process, "MAX_SEARCH_ROWS", 30)
    model = SourceProcess(SOURCES, random_state=0)
    assert len(model.fit(X, y).expansion_.rows) == 80
    np.testing.assert_array_equal(model.predict(X), clone(model).fit(X, y).predict(X))


def test_weight_0_leaves_a_row_out(data):
    X, y = data
    weight = np.where(np.arange(80) < 40, 2.0, 0.0)
    weighted = SourceProcess(SOURCES, random_state=0).fit(X, y, weight)
    half = SourceProcess(SOURCES, random_state=0).fit(X[:40], y[:40])
    np.testing.assert_array_equal(weighted.predict(X), half.predict(X))


@pytest.mark.parametrize(
    "model",
    [SourceProcess(SOURCES, random_state=0), KernelRegressor(random_state=0)],
    ids=["process", "kernel"],
)
def test_copies_of_rows_are_weights(model, data):
    X, y = data
    weight = np.arange(40) % 3 + 1
    weighted = clone(model).fit(X[:40], y[:40], weight)
    copies = np.concatenate([np.arange(40), np.repeat(np.arange(40), weight - 1)])
    copied = clone(model).fit(X[copies], y[copies])
    assert len(copied.expansion_.rows) <= 40
    np.testing.assert_allclose(copied.predict(X), weighted.predict(X))


def test_equal_rows_with_other_labels_stay(data):
    X, y = data
    model = SourceProcess(SOURCES, svr=False).fit(
        np.repeat(X, 2, axis=0), np.stack([y, y + 1], axis=1).ravel()
    )
    assert len(model.expansion_.rows) == 160
    assert model.noise_ > 0.05


def test_factor_is_kept_but_not_pickled_nor_used_after_another_fit(data, monkeypatch):
    X, y = data
    model = SourceProcess(SOURCES, svr=False).fit(X[:40], y[:40])
    first = model.predict(X, return_std=True)[1]
    loaded = pickle.loads(pickle.dumps(model))
    assert not hasattr(loaded, "_factor")
    np.testing.assert_array_equal(loaded.predict(X, return_std=True)[1], first)
    with monkeypatch.context() as patch:
        patch.setattr(process, "cholesky", None)  # would fail if it were called
        np.testing.assert_array_equal(model.predict(X, return_std=True)[1], first)
    model.fit(X[40:], y[40:])
    fresh = SourceProcess(SOURCES, svr=False).fit(X[40:], y[40:])
    np.testing.assert_array_equal(*[one.predict(X, return_std=True)[1] for one in (model, fresh)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (KernelRegressor("svm"), "'method'"),
        (KernelRegressor(transforms=["lg"]), "'transforms'"),
        (SourceProcess(transforms=["lg"]), "'transforms'"),
    ],
)
def test_misspelt_choices_are_refused(model, message, data):
    with pytest.raises(InvalidParameterError, match=message):
        model.fit(*data)


@pytest.mark.parametrize("make", [KernelRegressor, SourceProcess])
@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_labels_whose_squares_are_no_floats_are_refused(make, unit, data):
    X, y = data
    with pytest.raises(InvalidTargetsError, match="give them in another unit"):
        make().fit(X, unit * y)
