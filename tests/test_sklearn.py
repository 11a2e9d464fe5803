"""The contract with scikit-learn.

Its own checks make up arrays of numbers, so for an estimator of structures it runs none of them. Here each
row of numbers is turned into a crystal on the way in (`crystals`), so that all of them run, except those in
`EXPECTED_TO_FAIL`, each for the reason given there. `check_array_api_input` skips itself.

The tests after them put the estimators, as they are, into scikit-learn's tools, with structures in every
form:

- cross-validation, searches, learning curves, pipelines, stacking, voting, `MultiOutputRegressor` and
  `TransformedTargetRegressor` take lists, Series, 1-d and one-column object arrays, one-column frames and
  tables of graphs;
- `BaggingRegressor` and `AdaBoostRegressor` insist on two dimensions: a one-column frame or object array;
- `StackingRegressor(passthrough=True)` would put structures beside numbers in one matrix: impossible.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import AdaBoostRegressor, BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from matmosaic import (
    ComposedRegressor,
    GraphTable,
    ModuleFeaturizer,
    MPTRegressor,
    ProbeRegressor,
    TransferRegressor,
    load_module,
    to_object_array,
)
from matmosaic.estimators.moe import MoERegressor
from matmosaic.exceptions import StructureTypeError

MODULES = [*map(load_module, ["bundled:emt-eform", "bundled:emt-volume"])]
SMALL = {"width": 4, "n_convolutions": 1}

EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "batch statistics and the random validation set count "
    "rows; test_weights_are_repetitions runs it where there are neither",
    "check_supervised_y_2d": "a column of labels, such as a one-column DataFrame, is taken without a warning",
    "check_fit2d_1sample": "the message says 'rows', not 'samples'",
}


def expected_to_fail(estimator):
    """Return the checks that fail, and why."""
    if isinstance(estimator, MPTRegressor):  # of which scikit-learn expects no warning
        return {name: why for name, why in EXPECTED_TO_FAIL.items() if name != "check_supervised_y_2d"}
    return EXPECTED_TO_FAIL if isinstance(estimator, Numbers) else {}


def crystals(X):
    """Turn rows of numbers into tetragonal crystals, unlike rows into unlike ones."""
    columns = np.asarray(X, dtype=float)
    halves = columns[:, ::2], columns[:, 1::2]
    edges = [
        4 + 0.4 * np.tanh(half.mean(axis=1)) if half.shape[1] else np.full(len(half), 4.0) for half in halves
    ]
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return [Structure(Lattice.tetragonal(a, c), ["Cs", "Cl"], sites) for a, c in zip(*edges, strict=True)]


class Numbers:
    """A regressor of structures on rows of numbers."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(crystals(validate_data(self, X)), y, sample_weight)

    def predict(self, X):
        check_is_fitted(self)
        return super().predict(crystals(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.no_validation = False
        tags.regressor_tags.poor_score = True  # two epochs
        return tags


class NumbersRegressor(Numbers, TransferRegressor):
    """TransferRegressor on rows of numbers."""


class NumbersMixture(Numbers, MoERegressor):
    """MoERegressor on rows of numbers, of two modules that are read once."""

    def __init__(self, *, n_active=1, head_widths=(4,), max_epochs=2, random_state=None):
        own = {"n_active": n_active, "head_widths": head_widths, "max_epochs": max_epochs}
        super().__init__(MODULES, **own, random_state=random_state)


class NumbersMPT(Numbers, MPTRegressor):
    """MPTRegressor on rows of numbers, of a module, so that it takes one column of labels as well."""

    def __init__(self, *, head_widths=(4,), loss="l1", max_epochs=2, random_state=None):
        own = {"head_widths": head_widths, "loss": loss, "max_epochs": max_epochs}
        super().__init__(MODULES[0], **own, random_state=random_state)


class NumbersComposed(Numbers, ComposedRegressor):
    """ComposedRegressor on rows of numbers, of two modules of one base."""

    def __init__(self, *, weighting="optimised", head_widths=(4,), max_epochs=2, random_state=None):
        own = {"weighting": weighting, "head_widths": head_widths, "max_epochs": max_epochs}
        super().__init__(MODULES, **own, random_state=random_state)


class NumbersProbe(Numbers, ProbeRegressor):
    """ProbeRegressor on rows of numbers, of two modules."""

    def __init__(self, *, estimator=None, predictions=True, random_state=None):
        own = {"estimator": estimator, "predictions": predictions}
        super().__init__(MODULES, **own, random_state=random_state)


class NumbersFeaturizer(ModuleFeaturizer):
    """ModuleFeaturizer on rows of numbers."""

    def fit(self, X, y=None):
        validate_data(self, X)
        return self

    def transform(self, X):
        return super().transform(crystals(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.no_validation = False
        return tags


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@parametrize_with_checks(
    [
        NumbersRegressor(backbone_options=SMALL, head_widths=(4,), max_epochs=2),
        NumbersMixture(),
        NumbersMPT(),
        NumbersComposed(),
        NumbersProbe(),
        NumbersFeaturizer("bundled:emt-eform"),
    ],
    expected_failed_checks=expected_to_fail,
)
# Labels of some checks are noise, which no module helps to predict, and rows of some are crystals that no
# module tells apart.
@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.NegativeTransferWarning")
@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.ConstantFeaturesWarning")
@pytest.mark.usefixtures("float64")
def test_check(estimator, check):
    check(estimator)


@pytest.mark.usefixtures("float64")
def test_weights_are_repetitions(module):
    regressor = NumbersRegressor(module, unfrozen="head", validation_fraction=0, max_epochs=3)
    check_sample_weight_equivalence_on_dense_data("NumbersRegressor", regressor)


# --- structures in scikit-learn's tools --------------------------------------------------------------

FORMS = {
    "list": list,
    "series": pd.Series,
    "array": to_object_array,
    "column": lambda X: to_object_array(X).reshape(-1, 1),
    "frame": lambda X: pd.DataFrame({"structure": X}),
    "table": GraphTable.from_structures,
}
TWO_D = {name: FORMS[name] for name in ("column", "frame")}
in_every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture(scope="session")
def data():
    rows = np.random.RandomState(0).uniform(-1, 1, (30, 2))
    X = crystals(rows)
    return X, np.array([one.volume / len(one) for one in X])


@pytest.fixture(scope="session")
def module(data):
    scratch = TransferRegressor(backbone_options=SMALL, max_epochs=5, random_state=0).fit(*data)
    return scratch.to_module(name="tiny", target="volume", unit="angstrom^3/atom")


@pytest.fixture
def regressor(module):
    return TransferRegressor(module, max_epochs=3, random_state=0)


@in_every_form
def test_cross_validation(form, regressor, data):
    X, y = data
    folds = KFold(3, shuffle=True, random_state=0)
    expected = [
        clone(regressor).fit([X[i] for i in train], y[train]).score([X[i] for i in test], y[test])
        for train, test in folds.split(y)
    ]
    np.testing.assert_array_equal(cross_val_score(regressor, form(X), y, cv=folds), expected)


@in_every_form
def test_cross_validated_predictions_are_in_order(form, regressor, data):
    X, y = data
    predicted = cross_val_predict(regressor, form(X), y, cv=3)
    last = clone(regressor).fit(X[:20], y[:20]).predict(X[20:])
    np.testing.assert_array_equal(predicted[20:], last)


@in_every_form
def test_splitting(form, regressor, data):
    X, y = data
    train, test, y_train, y_test = train_test_split(form(X), y, random_state=0)
    assert np.isfinite(regressor.fit(train, y_train).score(test, y_test))


@in_every_form
def test_grid_search(form, regressor, module, data):
    X, y = data
    grid = {
        "unfrozen": ["head", "last", ["conv_1", "embedding"]],
        "module": [None, module],
        "max_epochs": np.arange(1, 3),
    }
    search = GridSearchCV(regressor.set_params(backbone_options=SMALL), grid, cv=2).fit(form(X), y)
    assert len(search.cv_results_["params"]) == 12
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = clone(regressor).set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.predict(form(X)), best.predict(X))


@pytest.mark.filterwarnings(
    "ignore:A worker stopped while some jobs:UserWarning"
)  # as an error in its thread, it would hang
def test_grid_search_in_processes(regressor, module, data, tmp_path):
    X, y = data
    module.save(tmp_path / "tiny")
    grid = {"module": [module, tmp_path / "tiny", str(tmp_path / "tiny")], "max_epochs": [1, 2]}
    one, two = (
        GridSearchCV(regressor.set_params(memory=tmp_path / "graphs"), grid, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (None, 2)
    )
    scores = one.cv_results_["mean_test_score"].reshape(2, 3)
    np.testing.assert_array_equal(scores.ravel(), two.cv_results_["mean_test_score"])
    assert (scores == scores[:, :1]).all()  # a module by any reference
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


@in_every_form
def test_learning_curve(form, regressor, data):
    X, y = data
    sizes, train_scores, test_scores = learning_curve(regressor, form(X), y, train_sizes=[8, 20], cv=3)
    assert sizes.tolist() == [8, 20]
    assert np.isfinite([train_scores, test_scores]).all()


@in_every_form
def test_pipeline_of_features(form, module, data):
    X, y = data
    model = make_pipeline(ModuleFeaturizer(module), Ridge()).fit(form(X), y)
    expected = Ridge().fit(module.features(X), y).predict(module.features(X))
    np.testing.assert_allclose(model.predict(form(X)), expected, rtol=1e-5)


@in_every_form
def test_pipeline_that_ends_in_a_regressor(form, regressor, data):
    X, y = data
    model = make_pipeline("passthrough", clone(regressor)).fit(form(X), y)
    np.testing.assert_array_equal(model.predict(form(X)), regressor.fit(X, y).predict(X))


@in_every_form
def test_transformed_target(form, regressor, data):
    X, y = data
    model = TransformedTargetRegressor(clone(regressor), func=np.log, inverse_func=np.exp).fit(form(X), y)
    expected = np.exp(regressor.fit(X, np.log(y)).predict(X))
    np.testing.assert_allclose(model.predict(form(X)), expected, rtol=1e-6)


@in_every_form
def test_stacking(form, regressor, module, data):
    X, y = data
    trained = clone(regressor).set_params(max_epochs=40)
    estimators = [("ridge", make_pipeline(ModuleFeaturizer(module), Ridge())), ("transfer", trained)]
    model = StackingRegressor(estimators, Ridge(alpha=1e-3), cv=3).fit(form(X), y)
    assert model.predict(form(X)).shape == (30,)
    assert model.score(form(X), y) > 0.5
    assert model.final_estimator_.n_features_in_ == 2


@in_every_form
def test_voting(form, regressor, data):
    X, y = data
    other = clone(regressor).set_params(random_state=1)
    voted = VotingRegressor([("a", regressor), ("b", other)]).fit(form(X), y).predict(form(X))
    mean = (clone(regressor).fit(X, y).predict(X) + other.fit(X, y).predict(X)) / 2
    np.testing.assert_allclose(voted, mean)


@in_every_form
def test_several_targets_one_by_one(form, regressor, data):
    X, y = data
    predicted = MultiOutputRegressor(regressor).fit(form(X), np.stack([y, -y], axis=1)).predict(form(X))
    np.testing.assert_array_equal(predicted[:, 0], clone(regressor).fit(X, y).predict(X))


@pytest.mark.parametrize("ensemble", [BaggingRegressor, AdaBoostRegressor])
@pytest.mark.parametrize("form", TWO_D.values(), ids=TWO_D)
def test_ensembles_of_a_column(ensemble, form, regressor, data):
    X, y = data
    model = ensemble(regressor, n_estimators=2, random_state=0).fit(form(X), y)
    assert model.predict(form(X)).shape == (30,)


def test_bagging_of_a_list_says_what_to_do(regressor, data):
    """scikit-learn makes an array of it, which takes the structures apart."""
    with pytest.raises(StructureTypeError, match="to_object_array"):
        BaggingRegressor(regressor, n_estimators=2).fit(*data)


def test_weights_are_routed(regressor, data):
    X, y = data
    weight = np.where(np.arange(30) % 2, 1.0, 0.0)
    half = [X[i] for i in range(30) if i % 2]
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline("passthrough", clone(regressor).set_fit_request(sample_weight=True))
        predicted = routed.fit(X, y, sample_weight=weight).predict(X)
    np.testing.assert_allclose(predicted, regressor.fit(half, y[1::2]).predict(X), rtol=1e-4)


def test_tables_stay_tables(data):
    train, test = train_test_split(GraphTable.from_structures(data[0]), test_size=6)
    assert (type(train), len(train), len(test)) == (GraphTable, 24, 6)


def test_passthrough_of_structures_is_refused_by_scikit_learn(regressor, data):
    X, y = data
    with pytest.raises(ValueError, match="dimension"):
        StackingRegressor([("a", regressor)], cv=2, passthrough=True).fit(pd.Series(X), y)
