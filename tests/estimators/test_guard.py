"""How bad a mixture can be: simple answers on the validation rows, in fit."""

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

from matmosaic import GraphTable, TransferRegressor
from matmosaic.estimators._guard import LinearAnswer
from matmosaic.exceptions import InvalidParameterError, NegativeTransferWarning
from matmosaic.learning.baselines import fit_baselines
from matmosaic.modules import PretrainedModule

NAMES = list("abc")
SIMPLE = {"median", "ridge", "zero-shot a", "zero-shot b", "zero-shot c"}


@pytest.fixture
def split(labelled):
    """Training rows, training labels, validation rows, validation labels."""
    X, y = labelled
    return X[10:], y[10:], X[:10], y[:10]


@pytest.fixture
def fit(make_mixture, split):
    """Fit on the training rows of the split, guarded on its validation rows."""
    X, y, X_val, y_val = split

    def fit(names=NAMES, **parameters):
        return make_mixture(names, **{"guard": "fallback", **parameters}).fit(X, y, X_val=X_val, y_val=y_val)

    return fit


def outputs(modules, X):
    features = np.hstack([modules[name].features(X) for name in NAMES])
    return features, np.stack([modules[name].predict(X) for name in NAMES], axis=1)


def test_without_a_guard_the_mixture_answers(fit):
    fitted = fit(guard="none")
    assert fitted.guard_ is None
    assert fitted.answer_ == "mixture"


def test_table_holds_the_errors_of_all_answers_best_first(fit, modules, split):
    """By hand: each answer fitted on the training rows, its mean absolute error on the others."""
    X, y, X_val, y_val = split
    fitted = fit()
    baselines = fit_baselines(*outputs(modules, X), y, module_names=NAMES)
    expected = {one.name: np.abs(one.predict(*outputs(modules, X_val)) - y_val).mean() for one in baselines}
    table = fitted.guard_["valid_mae"]
    assert set(table.index) == {*SIMPLE, "mixture"}
    assert table.index.name == "answer"
    assert table.is_monotonic_increasing
    np.testing.assert_allclose([table[name] for name in expected], list(expected.values()), rtol=1e-3)
    assert table["median"] == pytest.approx(np.abs(np.median(y) - y_val).mean())
    np.testing.assert_allclose(table["mixture"], fitted.history_["valid_mae"].min(), rtol=1e-5)


def test_report_warns_and_keeps_the_mixture(fit, split):
    with pytest.warns(
        NegativeTransferWarning, match=r"'ridge' has a smaller validation error .* than the mixture"
    ):
        reported = fit(guard="report")
    assert reported.answer_ == "mixture"
    np.testing.assert_array_equal(reported.predict(split[2]), fit(guard="none").predict(split[2]))


def test_report_says_nothing_when_the_mixture_is_best(fit, monkeypatch):
    monkeypatch.setattr("matmosaic.estimators._guard.fit_baselines", lambda *args, **kwargs: [])
    fitted = fit(guard="report")
    assert fitted.guard_.index.tolist() == ["mixture"]


def test_warning_points_at_the_call_of_fit(make_mixture, labelled):
    with pytest.warns(NegativeTransferWarning) as caught:
        make_mixture(guard="report").fit(*labelled)
    assert caught[0].filename == __file__


def test_ridge_wins_where_labels_are_linear_in_frozen_features(make_mixture, modules, split, float64):
    X, _, X_val, _ = split
    coef = np.linspace(-1, 1, 24)
    y, y_val = (outputs(modules, one)[0] @ coef for one in (X, X_val))
    fitted = make_mixture(guard="fallback").fit(X, y, X_val=X_val, y_val=y_val)
    assert fitted.answer_ == fitted.guard_.index[0] == "ridge"
    (ridge,) = (
        one for one in fit_baselines(*outputs(modules, X), y, module_names=NAMES) if one.name == "ridge"
    )
    assert isinstance(fitted._fallback, LinearAnswer)
    np.testing.assert_allclose(fitted.predict(X_val), ridge.predict(*outputs(modules, X_val)), rtol=1e-8)


def test_own_head_wins_where_labels_are_its_predictions(make_mixture, modules, split, float64):
    """In another unit: the head's predictions are shifted and scaled."""
    X, _, X_val, _ = split
    y, y_val = (96.5 * modules["b"].predict(one) - 7 for one in (X, X_val))
    fitted = make_mixture(guard="fallback").fit(X, y, X_val=X_val, y_val=y_val)
    assert fitted.answer_ == "zero-shot b"
    np.testing.assert_allclose(fitted.predict(X_val), y_val, rtol=1e-6)
    np.testing.assert_allclose(fitted.predict(GraphTable.from_structures(X_val)), y_val, rtol=1e-6)


def test_median_wins_where_there_is_nothing_to_learn(make_mixture, split, rng):
    X, _, X_val, _ = split
    y = np.where(np.arange(30) % 3, 1.0, rng.normal(scale=100, size=30))
    fitted = make_mixture(guard="fallback").fit(X, y, X_val=X_val, y_val=np.ones(10))
    assert fitted.answer_ == "median"
    np.testing.assert_allclose(fitted.guard_.loc["median", "valid_mae"], 0, atol=1e-5)
    np.testing.assert_allclose(fitted.predict(X_val), np.ones(10), rtol=1e-6)


def test_mixture_answers_where_it_is_best(fit, split, monkeypatch):
    monkeypatch.setattr("matmosaic.estimators._guard.fit_baselines", lambda *args, **kwargs: [])
    fitted = fit()
    assert (fitted.answer_, fitted._fallback) == ("mixture", None)
    np.testing.assert_array_equal(fitted.predict(split[2]), fit(guard="none").predict(split[2]))


@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.DivergedFitWarning")
def test_mixture_that_diverged_is_last(fit, split):
    fitted = fit(learning_rate=1e38, backbone_learning_rate=1e38, batch_size=4)
    assert fitted.guard_.index[-1] == "mixture"
    assert np.isnan(fitted.guard_.loc["mixture", "valid_mae"])
    assert np.isfinite(fitted.predict(split[2])).all()


def test_module_without_a_head_gives_no_answer_of_its_own(make_mixture, modules, split):
    X, y, X_val, y_val = split
    weights = {key: value for key, value in modules["a"].weights.items() if key.startswith("backbone.")}
    card = {**modules["a"].card.to_dict(), "head": None, "sha256": None, "golden": []}
    headless = PretrainedModule(type(modules["a"].card).from_dict(card), weights)
    mixture = make_mixture(modules=[headless, modules["b"]], guard="fallback")
    answers = set(mixture.fit(X, y, X_val=X_val, y_val=y_val).guard_.index)
    assert answers == {"mixture", "median", "ridge", "zero-shot b"}


def test_weights_count_in_fit_and_in_the_errors(make_mixture, labelled, modules):
    """Rows of weight 0 are as good as absent."""
    X, y = labelled
    weight = (np.arange(40) % 2).astype(float)
    spoilt = np.where(weight, y, 1e6)
    weighted = make_mixture(guard="fallback", unfrozen="head").fit(X, spoilt, weight)
    half = make_mixture(guard="fallback", unfrozen="head").fit(X[1::2], y[1::2])
    np.testing.assert_allclose(weighted.guard_["valid_mae"], half.guard_["valid_mae"], rtol=1e-3)


@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
def test_simple_answers_read_frozen_features_whatever_is_unfrozen(unfrozen, fit):
    expected = fit().guard_["valid_mae"].drop("mixture")
    got = fit(unfrozen=unfrozen, n_active=1).guard_["valid_mae"].drop("mixture")
    assert set(got.index) == SIMPLE
    np.testing.assert_allclose(got[expected.index], expected, rtol=1e-3)


def test_guard_changes_nothing_of_the_mixture(fit):
    plain, guarded = fit(guard="none", n_active=2), fit(n_active=2)
    np.testing.assert_array_equal(plain.gate_scores_, guarded.gate_scores_)
    np.testing.assert_array_equal(plain.history_["train_loss"], guarded.history_["train_loss"])


# --- scratch -----------------------------------------------------------------------------------------


def test_scratch_is_compared_on_request(fit):
    fitted = fit(guard_scratch=True)
    assert set(fitted.guard_.index) == {*SIMPLE, "mixture", "scratch"}
    assert np.isfinite(fitted.guard_.loc["scratch", "valid_mae"])


class CountTrainings(Callback):
    """Count how often training begins."""

    trainings_ = 0

    def on_train_begin(self, net, **kwargs):
        self.trainings_ += 1


def test_callbacks_watch_the_mixture_alone(fit):
    counter = CountTrainings()
    fit(guard_scratch=True, callbacks=[counter])
    assert counter.trainings_ == 1


def test_scratch_answers_where_it_wins(fit, split, monkeypatch):
    """Against a mixture of frozen modules whose head is hardly trained."""
    monkeypatch.setattr("matmosaic.estimators._guard.fit_baselines", lambda *args, **kwargs: [])
    fitted = fit(guard_scratch=True, unfrozen="head", max_epochs=40, learning_rate=0.03)
    assert fitted.answer_ == "scratch"
    X_val, y_val = split[2:]
    error = np.abs(fitted.predict(X_val) - y_val).mean()
    np.testing.assert_allclose(error, fitted.guard_.loc["scratch", "valid_mae"], rtol=1e-4)
    scratch = fitted._fallback
    assert isinstance(scratch, TransferRegressor)
    assert (scratch.module_card_, scratch.backbone_options["width"]) == (None, 8)


# --- validation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", ["report", "fallback"])
def test_guard_needs_validation_rows(guard, make_mixture, labelled):
    message = (
        f"guard='{guard}' compares on validation rows, but there are none. Set 'validation_fraction' > 0"
    )
    with pytest.raises(InvalidParameterError, match=message):
        make_mixture(guard=guard, validation_fraction=0).fit(*labelled)


def test_given_validation_rows_suffice(fit):
    assert fit(validation_fraction=0).guard_ is not None


def test_cross_validation_stays_honest(make_mixture, labelled):
    """All is chosen inside fit, so labels of the rows to predict cannot matter."""
    X, y = labelled
    mixture = make_mixture(guard="fallback")
    one = mixture.fit(X[:30], y[:30]).predict(X[30:])
    assert cross_val_score(mixture, X, y, cv=[(range(30), range(30, 40))])[0] == pytest.approx(
        1 - ((one - y[30:]) ** 2).sum() / ((y[30:] - y[30:].mean()) ** 2).sum()
    )
