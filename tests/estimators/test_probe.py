"""ProbeRegressor: what it reads, what it learns, and what it refuses."""

import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matmosaic import DerivedFeature, GraphTable, PretrainedModule, ProbeRegressor
from matmosaic.backbones import trunk
from matmosaic.estimators import load_estimator
from matmosaic.exceptions import (
    ConstantFeaturesWarning,
    InvalidFeaturesError,
    InvalidParameterError,
    InvalidStructuresError,
    InvalidTargetsError,
    StructureTypeError,
    UndefinedFeaturesWarning,
    UnknownNameError,
    UnsupportedElementError,
    UnusableRowsWarning,
)
from matmosaic.featurizers import Featurizer, cache


class Density(Featurizer):
    """Two numbers in two groups, undefined for copper if ``gap``."""

    def __init__(self, gap=False, groups=None):
        self.gap = gap
        self.groups = groups

    def featurize(self, structure):
        density = np.nan if self.gap and structure.elements[0].symbol == "Cu" else structure.density
        return np.array([density, structure.volume / len(structure)])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)", "volume (angstrom^3/atom)"], dtype=object)


class Grouped(Density):
    """The same with a label for each column."""

    def get_feature_groups_out(self):
        return np.array(self.groups, dtype=object)


@pytest.fixture
def make(modules):
    """Function that makes a probe of modules by name, and of other sources."""

    def make(names="ab", *others, **parameters):
        given = [modules[name] for name in names]
        return ProbeRegressor([*given, *others], **{"random_state": 0, **parameters})

    return make


@pytest.fixture
def X(labelled):
    return labelled[0]


@pytest.fixture
def y(labelled):
    return labelled[1]


# --- what it reads -----------------------------------------------------------------------------------


def test_columns_are_features_then_predictions(make, modules, X, y):
    probe = make("ab", Density()).fit(X, y)
    names = [*(f"a_{i}" for i in range(8)), *(f"b_{i}" for i in range(8))]
    names += ["density (g/cm^3)", "volume (angstrom^3/atom)"]
    names += ["a: volume (angstrom^3/atom)", "b: volume (angstrom^3/atom)"]
    assert probe.feature_names_.tolist() == names
    assert probe.sources_ == ["a", "b", "Density", "predictions"]
    assert probe.module_cards_ == [modules["a"].card, modules["b"].card]
    columns = np.concatenate([block.values for block in probe._blocks(X)], axis=1)
    np.testing.assert_allclose(columns[:, :8], modules["a"].features(X), rtol=1e-5)
    np.testing.assert_allclose(columns[:, 17], y)
    np.testing.assert_allclose(columns[:, 19], modules["b"].predict(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "sources"),
    [
        ({}, ["a", "b", "predictions"]),
        ({"features": False}, ["predictions"]),
        ({"predictions": False}, ["a", "b"]),
    ],
)
def test_features_and_predictions_may_be_left_out(parameters, sources, make, X, y):
    assert make(**parameters).fit(X, y).sources_ == sources


def test_modules_without_a_head_predict_nothing(make, modules, X, y):
    card = modules["a"].card
    weights = {name: one for name, one in modules["a"].weights.items() if name.startswith("backbone.")}
    headless = PretrainedModule(replace(card, head=None, sha256=None, golden=[], name="bare"), weights)
    assert make("b", headless).fit(X, y).feature_names_[-1] == "b: volume (angstrom^3/atom)"
    with pytest.raises(InvalidParameterError, match="no source gives a column"):
        make("", headless, features=False).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'bare' has no head; name one that has"):
        make("b", DerivedFeature("2*V", unit="1", V=headless)).fit(X, y)


def test_formulas_of_predictions(make, modules, X, y):
    twice = DerivedFeature("2*V - W", unit="angstrom^3/atom", name="odd", V=modules["a"], W=modules["c"])
    probe = make("a", derived=[twice]).fit(X, y)
    assert probe.sources_ == ["a", "predictions", "odd"]
    assert probe.feature_names_[-1] == "odd (angstrom^3/atom)"
    assert [card.name for card in probe.module_cards_] == ["a", "c"]
    expected = 2 * modules["a"].predict(X) - modules["c"].predict(X)
    np.testing.assert_allclose(probe._blocks(X)[-1].values[:, 0], expected, rtol=1e-4)


def test_a_formula_may_stand_among_the_sources_or_alone(make, modules, X, y):
    formula = DerivedFeature("log(V)", unit="1", V=modules["a"])
    among, given = make("b", formula).fit(X, y), make("b", derived=formula).fit(X, y)
    np.testing.assert_array_equal(among.predict(X), given.predict(X))
    alone = ProbeRegressor(formula, estimator=LinearRegression()).fit(X, y)
    assert alone.sources_ == ["log(V)"]
    assert alone.feature_names_.tolist() == ["log(V) (1)"]


def test_undefined_formulas_are_filled_in(make, modules, X, y):
    middle = float(np.median(modules["a"].predict(X)))
    formula = DerivedFeature(f"log(V - {middle})", unit="1", name="gappy", V=modules["a"])
    probe = make("a", derived=formula).fit(X, y)
    assert 0 < np.isnan(probe._blocks(X)[-1].values).sum() < len(X)
    assert np.isfinite(probe.predict(X)).all()


def test_a_property_of_several(several, make, X, y):
    formula = DerivedFeature("m / v", unit="u/angstrom^3", m=(several, "mass"), v=(several, "volume"))
    probe = make("", several, derived=formula).fit(X, y)
    assert probe.feature_names_[-4:].tolist() == [
        "several: volume (angstrom^3/atom)",
        "several: density (g/cm^3)",
        "several: mass (u/atom)",
        "m / v (u/angstrom^3)",
    ]
    columns = several.predict(X)
    expected = columns[:, 2] / columns[:, 0]
    np.testing.assert_allclose(probe._blocks(X)[-1].values[:, 0], expected, rtol=1e-4)
    for value, message in ((several, "must say which property"), ((several, "mas"), "Did you mean 'mass'?")):
        with pytest.raises(InvalidParameterError, match=re.escape(message)):
            make("", several, derived=DerivedFeature("m", unit="u", m=value)).fit(X, y)


def test_groups_of_a_featurizer_are_sources(make, X, y):
    probe = make("a", Grouped(groups=["mass", "size"])).fit(X, y)
    assert probe.sources_ == ["a", "Grouped: mass", "Grouped: size", "predictions"]
    with pytest.raises(InvalidFeaturesError, match="one label for each of the 2 features. Got 1"):
        make("a", Grouped(groups=["mass"])).fit(X, y)


def test_equal_names_get_their_source(make, X, y):
    probe = make("", Density(), Grouped(groups=["all", "all"])).fit(X, y)
    assert "Density: density (g/cm^3)" in probe.feature_names_
    assert "Grouped: all: density (g/cm^3)" in probe.feature_names_


def test_networks_run_once_per_structure(make, X, y, monkeypatch):
    cache.PROCESS_CACHE.clear()
    seen = []
    original = trunk.make_table

    def counting(backbone, structures, **options):
        seen.append(len(structures))
        return original(backbone, structures, **options)

    monkeypatch.setattr(trunk, "make_table", counting)
    cross_val_score(make("ab"), X, y, cv=3)
    search = {"estimator": ["ridge", "svr"], "predictions": [True, False]}
    GridSearchCV(make("ab"), search, cv=3).fit(X, y)
    assert sum(seen) == 2 * len(X)


def test_a_table_of_graphs(make, modules, X, y):
    table = GraphTable.from_structures(X)
    formula = DerivedFeature("2*V", unit="1", V=modules["c"])
    probe = make("ab", derived=formula, estimator="ridge").fit(table, y)
    expected = make("ab", derived=formula, estimator="ridge").fit(X, y).predict(X)
    np.testing.assert_allclose(probe.predict(table), expected, rtol=1e-4)
    with pytest.raises(StructureTypeError, match="no structures for featurizer 'Density'"):
        make("a", Density()).fit(table, y)


@pytest.mark.parametrize(
    "form", [list, tuple, pd.Series, lambda X: pd.DataFrame({"s": X}), lambda X: [one.as_dict() for one in X]]
)
def test_forms_of_structures(form, make, X, y):
    probe = make("a", estimator="ridge").fit(form(X), y)
    np.testing.assert_allclose(probe.predict(form(X)), make("a", estimator="ridge").fit(X, y).predict(X))


def test_features_that_are_not_known_are_filled_in(make, X, y):
    probe = make("a", Density(gap=True)).fit(X, y)  # without advice about imputers: it imputes
    assert np.isfinite(probe.predict(X)).all()


def test_rows_that_are_not_described_at_all_are_told(make, X, y):
    class Silent(Density):
        def featurize(self, structure):
            raise ValueError("no data")

    with pytest.warns(UndefinedFeaturesWarning, match=r"Silent describes 40 of 40 rows not at all: X\[0\]"):
        probe = make("a", Silent(), estimator="ridge").fit(X, y)
    with pytest.warns(UndefinedFeaturesWarning, match=r"Silent\(\).transform\(X\) says why"):
        assert np.isfinite(probe.predict(X[:3])).all()


def test_a_formula_needs_a_name_of_its_own(make, modules, X, y):
    formula = DerivedFeature("log(V)", unit="1", V=modules["a"])
    with pytest.raises(InvalidParameterError, match=r"Another source is named 'log\(V\)'.* Leave one out"):
        make("a", formula, derived=formula).fit(X, y)
    for name in ("a", "predictions"):
        named = DerivedFeature("log(V)", unit="1", name=name, V=modules["b"])
        with pytest.raises(InvalidParameterError, match=f"Another source is named '{name}'"):
            make("a", derived=named).fit(X, y)


def test_a_module_may_be_called_as_predictions_are(make, modules, X, y):
    module = modules["a"]
    card = replace(module.card, name="predictions", sha256=None, golden=[])
    probe = make("", PretrainedModule(card, module.weights)).fit(X, y)
    own = f"predictions@{probe.module_cards_[0].sha256[:8]}"
    assert probe.sources_ == [own, "predictions"]
    assert probe.explain().loc[own, "unit"] == "angstrom^3/atom"


def test_a_module_that_is_named_by_a_number_gets_the_name_of_its_backbone(make, modules, X, y, tmp_path):
    module = modules["a"]
    card = replace(module.card, name="0.3.0", sha256=None, golden=[])
    probe = make("", PretrainedModule(card, module.weights)).fit(X, y)
    assert probe.sources_[0] == "cgcnn-0.3.0"
    assert probe.feature_names_[0] == "cgcnn-0.3.0_0"
    probe.save(tmp_path / "probe", target="y", unit="1")
    loaded = load_estimator(tmp_path / "probe")
    pd.testing.assert_frame_equal(loaded.explain(), probe.explain())
    assert loaded.explain().loc["cgcnn-0.3.0", "unit"] == "angstrom^3/atom"


def test_modules_of_formulas_do_not_rename_sources(make, modules, X, y):
    """Of two modules with one name, one is a source and the other a variable."""
    twin = modules["b"]
    twin = PretrainedModule(replace(twin.card, name="a", sha256=None, golden=[]), twin.weights)
    formula = DerivedFeature("log(V)", unit="1", V=twin)
    table = make("a", derived=formula, estimator="ridge").fit(X, y).explain()
    assert table.loc["a", "unit"] == "angstrom^3/atom"


# --- what it learns ----------------------------------------------------------------------------------

NAMES = ["svr", "kernel_ridge", "gaussian_process", "ridge", "trees"]


@pytest.mark.parametrize(
    "estimator", [None, *NAMES, KNeighborsRegressor(2), make_pipeline(StandardScaler(), Ridge())]
)
def test_every_regressor_learns(estimator, make, X, y):
    rows = np.random.RandomState(0).permutation(40)
    train, test = rows[:30], rows[30:]
    probe = make("ab", estimator=estimator).fit([X[row] for row in train], y[train])
    assert probe.score([X[row] for row in test], y[test]) > 0.9
    assert probe.n_train_ == 30


def test_reproducible(make, X, y):
    first, second = (make("ab").fit(X, y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    forests = [make("ab", estimator="trees", random_state=seed).fit(X[:20], y[:20]) for seed in (0, 0, 1)]
    trees = [forest.predict(X[20:]) for forest in forests]
    np.testing.assert_array_equal(trees[0], trees[1])
    assert (trees[0] != trees[2]).any()


def test_only_rows_of_fit_are_looked_at(make, X, y):
    """A scale, a selection or principal components of all rows would leak."""
    for reduction in (None, "relevance", "pca"):
        probe = make("ab", Density(), reduction=reduction, estimator="ridge").fit(X[:20], y[:20])
        before = probe.predict(X[:20])
        probe.predict(X)
        np.testing.assert_array_equal(probe.predict(X[:20]), before)
        columns = np.concatenate([block.values for block in probe._blocks(X[:20])], axis=1)
        np.testing.assert_allclose(probe._preparation.mean, columns[:, probe._preparation.kept].mean(axis=0))


@pytest.mark.parametrize("reduction", ["relevance", "pca"])
def test_reduction(reduction, make, X, y):
    probe = make("ab", Density(), reduction=reduction, n_features=3, estimator="ridge").fit(X, y)
    assert probe.estimator_.n_features_in_ == 3
    assert len(probe.selected_features_) == (3 if reduction == "relevance" else len(probe.feature_names_))
    if reduction == "relevance":
        assert "volume (angstrom^3/atom)" in probe.selected_features_
    assert probe.score(X, y) > 0.8


def test_a_search_finds_what_to_read(make, X, y):
    grid = {"features": [True, False], "estimator": ["ridge", Ridge(1e6)], "reduction": [None, "pca"]}
    search = GridSearchCV(make("ab"), grid, cv=3).fit(X, y)
    assert search.best_params_["estimator"] == "ridge"


def test_best_params(make, X, y):
    assert make("a").fit(X, y).best_params_["transform"] in ("identity", "log")
    assert set(make("a", estimator="ridge").fit(X, y).best_params_) == {"alpha"}
    assert make("a", estimator=Ridge()).fit(X, y).best_params_ == {}
    search = GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2)
    assert set(make("a", estimator=search).fit(X, y).best_params_) == {"alpha"}


def test_users_regressor_is_left_alone(make, X, y):
    ridge = Ridge(2.0)
    probe = make("a", estimator=ridge).fit(X, y)
    assert not hasattr(ridge, "coef_")
    assert (type(probe.estimator_), probe.estimator_.alpha) == (Ridge, 2.0)


def test_weights(make, X, y):
    weight = np.where(np.arange(40) % 2, 1.0, 0.0)
    odd = slice(1, None, 2)
    for estimator in (None, "svr", "ridge"):
        weighted = make("a", estimator=estimator).fit(X, y, sample_weight=weight)
        assert weighted.n_train_ == 20
        half = make("a", estimator=estimator).fit(X[odd], y[odd], sample_weight=np.ones(20))
        np.testing.assert_allclose(weighted.predict(X), half.predict(X), rtol=1e-6)
    for regressor in (KNeighborsRegressor(), make_pipeline(StandardScaler(), KNeighborsRegressor())):
        with pytest.raises(InvalidParameterError, match="KNeighborsRegressor takes none. Leave it out"):
            make("a", estimator=regressor).fit(X, y, sample_weight=weight)


def test_weights_reach_the_last_step_of_a_pipeline(make, X, y):
    weight = np.linspace(0.1, 5.0, len(y))
    ridge = make("a", estimator=Ridge()).fit(X, y, sample_weight=weight)
    piped = make("a", estimator=make_pipeline(make_pipeline("passthrough", Ridge())))
    np.testing.assert_allclose(piped.fit(X, y, sample_weight=weight).predict(X), ridge.predict(X), rtol=1e-9)
    unweighted = make("a", estimator=Ridge()).fit(X, y)
    assert np.abs(unweighted.predict(X) - ridge.predict(X)).max() > 1e-3


@pytest.mark.parametrize("estimator", [None, "gaussian_process", GaussianProcessRegressor()])
def test_std(estimator, make, X, y):
    probe = make("a", estimator=estimator).fit(X[:30], y[:30])
    mean, std = probe.predict(X[30:], return_std=True)
    np.testing.assert_allclose(mean, probe.predict(X[30:]))
    assert std.shape == (10,)
    assert (std >= 0).all()


@pytest.mark.parametrize("estimator", ["svr", "ridge", "trees", make_pipeline(StandardScaler(), Ridge())])
def test_no_std(estimator, make, X, y):
    with pytest.raises(InvalidParameterError, match="'return_std' needs a regressor that offers"):
        make("a", estimator=estimator).fit(X, y).predict(X, return_std=True)


def test_explain(make, X, y):
    table = make("ab", Density()).fit(X, y).explain()
    assert table.index.name == "source"
    assert set(table.index) == {"a", "b", "Density", "predictions"}
    assert list(table) == ["n_columns", "n_selected", "importance", "target", "unit", "license_weights"]
    assert table["importance"].is_monotonic_decreasing
    assert table.loc["a", ["n_columns", "target", "license_weights"]].tolist() == [8, "volume", "MIT"]
    assert table.loc["Density", "target"] is None
    assert table.loc["Density", "importance"] > 0


def test_a_source_that_says_nothing_has_no_importance(make, X, y):
    class Noise(Density):
        def featurize(self, structure):
            return np.random.RandomState(int(1e6 * structure.volume) % 2**31).normal(size=2)

    table = make("a", Noise(), estimator="ridge").fit(X, y).explain()
    assert table.index[-1] == "Noise"


def test_pickle_and_clone(make, X, y):
    formula = DerivedFeature("2*V", unit="1", V="bundled:emt-volume")
    probe = make("a").fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(probe)).predict(X), probe.predict(X))
    copied = clone(make("a", derived=[formula], estimator=Ridge(3.0)))
    assert copied.derived == [formula]
    assert copied.get_params()["estimator__alpha"] == 3.0


# --- rows that cannot be used ------------------------------------------------------------------------


def test_rows_that_cannot_be_used_are_nan(make, X, y, Cu):
    other = Cu.copy()
    other.replace(0, "Og")
    probe = make("a").fit(X, y)
    given = [X[0], "nonsense", other, X[1]]
    for return_std in (False, True):
        with pytest.warns(
            UnusableRowsWarning, match=r"2 of 4 rows cannot be used and are NaN: X\[1\], X\[2\]"
        ):
            predicted = probe.predict(given, on_error="nan", return_std=return_std)
        for one in predicted if return_std else [predicted]:
            assert np.isnan(one).tolist() == [False, True, True, False]
    with pytest.raises(InvalidStructuresError, match=r"X\[1\]"):
        probe.predict(given)
    with pytest.raises(UnsupportedElementError, match=r"X\[1\] .* \[118\]"):
        probe.predict([X[0], other])


# --- what it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimator": "svm"}, "Unknown value of 'estimator' 'svm'. Did you mean 'svr'?"),
        ({"estimator": Ridge}, "'estimator' must be None, one of 'svr', 'kernel_ridge'"),
        ({"estimator": StandardScaler()}, "or a scikit-learn regressor, as an object"),
        ({"reduction": "pcs"}, "Unknown value of 'reduction' 'pcs'. Did you mean 'pca'?"),
        ({"n_features": 5}, "'n_features' is for reduction='relevance' or 'pca'. Got 5"),
        ({"n_features": 0, "reduction": "pca"}, "'n_features' must be an int >= 1, or None. Got 0"),
        ({"features": 1}, "'features' must be True or False. Got 1"),
        ({"predictions": "no"}, "'predictions' must be True or False"),
        ({"derived": ["2*V"]}, "'derived' must hold DerivedFeature objects. Got '2*V'"),
        ({"batch_size": 0}, "'batch_size' must be an int >= 1"),
        ({"device": "abacus"}, "'device' must be"),
    ],
)
def test_bad_parameters(parameters, message, make, X, y):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        make("a", **parameters).fit(X, y)


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ([], InvalidParameterError, "'sources' must name at least one module or featurizer"),
        (None, InvalidParameterError, "'sources' must be a reference such as 'bundled:*', a module, a feat"),
        (5, InvalidParameterError, "a DerivedFeature, or a list of these. Got 5."),
        ("", InvalidParameterError, "or a list of these. Got ''."),
        (Density, InvalidParameterError, "Pass an object: Density()."),
        ("bundled:nope", UnknownNameError, "Unknown module"),
        (
            ["bundled:emt-volume", "bundled:emt-*"],
            InvalidParameterError,
            "'sources' must hold each module and each featurizer once",
        ),
        ("featurizer:nope", UnknownNameError, "nope"),
    ],
)
def test_bad_sources(sources, error, message, X, y):
    with pytest.raises(error, match=re.escape(message)):
        ProbeRegressor(sources).fit(X, y)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (40, np.ones(40), "'y' is constant"),
        (40, np.arange(39), "must have the same length"),
        (40, np.where(np.arange(40) == 3, np.nan, 1.0), "y[3]=nan"),
        (1, [1.0], "'X' has 1 row; at least 2 are needed"),
    ],
)
def test_bad_labels(rows, labels, message, make, X):
    with pytest.raises(InvalidTargetsError, match=re.escape(message)):
        make("a").fit(X[:rows], labels)


def test_one_row_of_weight(make, X, y):
    with pytest.raises(InvalidTargetsError, match="'X' has 1 row of weight > 0; at least 2"):
        make("a").fit(X, y, sample_weight=np.arange(40) == 3)
    with pytest.raises(InvalidTargetsError, match="all 2 labels"):
        make("a").fit(X, np.where(np.arange(40) < 2, 1.0, y), sample_weight=np.arange(40) < 2)


@pytest.mark.parametrize("estimator", [None, "svr", "ridge"])
@pytest.mark.parametrize("reduction", [None, "relevance", "pca"])
def test_equal_structures_are_predicted_alike(estimator, reduction, make, X, y):
    with pytest.warns(ConstantFeaturesWarning, match=r"They are 'a_0', .* Give sources that tell"):
        probe = make("a", estimator=estimator, reduction=reduction).fit([X[0]] * 9, y[:9])
    predicted = probe.predict(X)
    np.testing.assert_allclose(predicted, predicted[0])
    assert y[:9].min() < predicted[0] < y[:9].max()


def test_parameter_sources_of_a_regressor_of_ones_own_is_left_alone(make, X, y):
    class Own(LinearRegression):
        def __init__(self, sources="mine"):
            super().__init__()
            self.sources = sources

    assert make("a", estimator=Own()).fit(X, y).estimator_.sources == "mine"
