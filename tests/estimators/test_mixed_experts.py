"""Featurizers as experts beside modules: in every mode of a mixture and in compositions, saved and loaded."""

import copy
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Structure
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from matmosaic import ComposedRegressor, GraphTable, MoERegressor, plugins
from matmosaic.estimators import load_estimator
from matmosaic.estimators._guard import Guard
from matmosaic.exceptions import (
    InvalidParameterError,
    ModuleFormatError,
    NegativeTransferWarning,
    PluginError,
    UndefinedFeaturesWarning,
    UnknownNameError,
    UnusableRowsWarning,
)
from matmosaic.featurizers import Featurizer
from matmosaic.learning.featurized import FeatureExpert

NAMES = ["a", "b", "Sizes"]


class Sizes(Featurizer):
    """A few sizes of a crystal in very different units, one of which never varies."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def featurize(self, structure):
        heaviest = max(site.specie.Z for site in structure)
        if heaviest == 6:
            raise ValueError("made of carbon")
        size = structure.volume / len(structure)
        return self.factor * np.array([1e9 * size, heaviest, structure.density, size / heaviest, 7.0])

    def get_feature_names_out(self, input_features=None):
        names = ["volume (10^-9 angstrom^3/atom)", "Z", "density (g/cm^3)", "size (angstrom^3/atom)", "seven"]
        return np.array(names, dtype=object)


class Newer(Sizes):
    version = "2"


DEFAULT = ("a", "b", Sizes())


def secrets(structures):
    """Return a number of each crystal that near ones do not share."""
    return np.sin(1000 * np.array([one.volume for one in structures]))


class Secret(Featurizer):
    """What only it knows."""

    def featurize(self, structure):
        return secrets([structure])

    def get_feature_names_out(self, input_features=None):
        return np.array(["secret"], dtype=object)


@pytest.fixture
def installed(monkeypatch):
    """Dictionary of featurizers that are found as plugins."""
    found = {"sizes": Sizes}
    load, names, infos = plugins.load, plugins.names, plugins.list_plugins

    def info(name):
        return plugins.PluginInfo(
            group="matmosaic.featurizers", name=name, distribution="d", version="1", reference="a.b:c"
        )

    monkeypatch.setattr(
        plugins, "load", lambda kind, name: found[name] if name in found else load(kind, name)
    )
    monkeypatch.setattr(
        plugins, "names", lambda kind: sorted(found) if kind == "featurizers" else names(kind)
    )
    monkeypatch.setattr(plugins, "list_plugins", lambda: [*infos(), *map(info, found)])
    return found


@pytest.fixture
def make(modules):
    """Function that makes a quick, reproducible mixture; modules by name, others as they are."""

    def make(experts=DEFAULT, **parameters):
        given = [modules.get(one, one) if isinstance(one, str) else one for one in experts]
        return MoERegressor(given, **{"max_epochs": 3, "random_state": 0, **parameters})

    return make


@pytest.fixture
def compose(modules):
    """Function that makes a quick, reproducible composition of features."""

    def compose(experts=DEFAULT, **parameters):
        given = [modules.get(one, one) if isinstance(one, str) else one for one in experts]
        options = {"combine": "features", "max_epochs": 3, "random_state": 0}
        return ComposedRegressor(given, **{**options, **parameters})

    return compose


@pytest.fixture(scope="module")
def carbon():
    """A crystal that Sizes cannot describe."""
    return Structure([[3.5, 0, 0], [0, 3.5, 0], [0, 0, 3.5]], ["C"], [[0, 0, 0]])


# --- every mode --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"aggregation": "add"},
        {"aggregation": "concat"},
        {"aggregation": "ensemble"},
        {"standardize": False},
        {"width": 4},
        {"aggregation": "concat", "width": 4},
        {"unfrozen": "head"},
        {"unfrozen": "all"},
        {"n_active": 2},
        {"n_active": 2, "gate_init": "warmup"},
        {"n_active": 2, "gate_init": "uniform"},
        {"n_active": 1, "gate_init": [0.0, 0.0, 1.0]},
        {"experts": ["a", "wide", Sizes()]},
        {"experts": ["a", "b", "wide"]},
        {"experts": [Sizes()]},
        {"experts": [Sizes(), Newer(2.0)], "aggregation": "ensemble"},
        {"weighted_sampling": True, "loss": "l1"},
    ],
    ids=str,
)
def test_variants_learn_and_are_copied(parameters, make, labelled):
    X, y = labelled
    fitted = make(**{"max_epochs": 40, "validation_fraction": 0, **parameters}).fit(X, y)
    losses = fitted.history_["train_loss"]
    assert losses.iloc[-1] < 0.4 * losses[0]
    predicted = fitted.predict(X)
    assert np.abs(predicted - y).mean() < np.abs(np.median(y) - y).mean()
    for other in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.predict(X), predicted)


def test_gate_and_explain_name_featurizers(make, labelled):
    fitted = make(gate_init=[0.0, 1.0, 2.0]).fit(*labelled)
    assert fitted.module_names_ == NAMES
    table = fitted.explain()
    assert table.index.tolist() == ["Sizes", "b", "a"]
    assert fitted.gate_scores_.sum() == pytest.approx(1)
    assert table.loc["Sizes", ["target", "unit", "dataset", "license_weights"]].tolist() == [None] * 4
    assert table.loc["a", "target"] == "volume"
    card = fitted.module_cards_[2]
    assert (card.name, card.identity) == ("Sizes", Sizes().identity())


def test_reference_names_its_expert(make, labelled, installed):
    by_name, by_object = make([*"ab", "featurizer:sizes"]), make()
    by_name.fit(*labelled)
    assert by_name.module_names_ == ["a", "b", "sizes"]
    X, _ = labelled
    np.testing.assert_array_equal(by_name.predict(X), by_object.fit(*labelled).predict(X))
    alone = MoERegressor("featurizer:sizes", max_epochs=0).fit(*labelled)
    assert alone.module_names_ == ["sizes"]


def test_names_that_clash_get_the_start_of_a_hash(make, labelled):
    names = make([Sizes(), Sizes(2.0), "a"], aggregation="concat").fit(*labelled).module_names_
    assert re.fullmatch("Sizes@[0-9a-f]{8}", names[0])
    assert len(set(names)) == 3


def test_width_is_that_of_most_modules(make, labelled):
    def widths(*experts, **parameters):
        return make(experts, max_epochs=0, **parameters).fit(*labelled).net_.module_.aggregation.projected

    assert widths("a", "wide", "b", Sizes()) == [None, 8, None, 8]
    assert widths("wide", "a") == [None, 6]  # a tie: the smaller
    assert widths(Sizes()) == [64]
    assert widths("a", "wide", Sizes(), aggregation="concat") == [None, None, 6]
    assert widths("a", "wide", Sizes(), width=5) == [5, 5, 5]
    assert widths("a", "wide", Sizes(), width=5, aggregation="ensemble") == [None, None, 5]


def test_proxy_chooses_a_featurizer_that_knows_the_property(make, labelled):
    X, _ = labelled
    assert make([*"ab", Secret()], n_active=1, max_epochs=0).fit(X, secrets(X)).gate_scores_.tolist() == [
        0,
        0,
        1,
    ]


def test_numbers_are_those_of_the_training_rows_alone(make, labelled):
    """Neither the validation rows nor those of no weight are looked at."""
    X, y = labelled
    weight = np.r_[np.ones(25), np.zeros(5)]
    fitted = make(n_active=None).fit(X[:30], y[:30], weight, X_val=X[30:], y_val=y[30:])
    (expert,) = (one for one in fitted.net_.module_.experts if isinstance(one, FeatureExpert))
    raw = np.stack([Sizes().featurize(one) for one in X[:25]])
    stage = expert.stages["standardise"]
    np.testing.assert_allclose(stage.mean, raw.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stage.factor[:4], 1 / raw.std(axis=0)[:4], rtol=1e-4)
    assert stage.factor[4] == 0


def test_test_rows_change_nothing_for_each_other(make, labelled):
    X, y = labelled
    fitted = make().fit(X, y)
    one_by_one = np.concatenate([fitted.predict([one]) for one in X[:4]])
    np.testing.assert_allclose(fitted.predict(X)[:4], one_by_one, rtol=1e-5)


def test_same_seed_gives_the_same_bits(make, labelled):
    X, y = labelled
    first, second = (make(batch_size=16, n_active=2, gate_init="warmup").fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


def test_threads_give_the_same_numbers(make, labelled):
    X, y = labelled
    expected = make().fit(X, y).predict(X)
    torch.set_num_threads(2)
    try:
        first, second = (make().fit(X, y).predict(X) for _ in range(2))
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, expected, rtol=1e-3)


def test_a_featurizer_left_out_changes_no_bit(make, labelled):
    X, y = labelled
    without = make("ab").fit(X, y)
    left_out = make(n_active=2, gate_init=[1.0, 1.0, -9.0]).fit(X, y)
    np.testing.assert_array_equal(without.predict(X), left_out.predict(X))


def test_maps_decay_and_nothing_else_does(make, labelled):
    net = make().fit(*labelled).net_
    names = {id(parameter): name for name, parameter in net.module_.named_parameters()}
    decayed = {
        names[id(one)]
        for group in net.optimizer_.param_groups
        for one in group["params"]
        if group["weight_decay"]
    }
    assert decayed == {"aggregation.projections.2.weight", "aggregation.projections.2.bias"}


def test_cross_validation_and_grid_search(make, labelled):
    X, y = labelled
    scores = cross_val_score(make(n_active=2), X, y, cv=2)
    assert scores[1] == make(n_active=2).fit(X[:20], y[:20]).score(X[20:], y[20:])
    grid = {"modules": [make().modules, [Sizes(2.0)]], "n_active": [1, None]}
    search = GridSearchCV(make(max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 4


def test_clones_hold_equal_featurizers(make, modules):
    cloned = clone(make()).modules
    assert cloned[:2] == [modules["a"], modules["b"]]
    assert cloned[2].identity() == Sizes().identity()


# --- rows that a featurizer cannot describe ----------------------------------------------------------


def test_row_without_features_is_imputed(make, labelled, carbon):
    X, y = labelled
    with pytest.warns(UndefinedFeaturesWarning):
        fitted = make().fit([*X, carbon], [*y, 40.0])
    with pytest.warns(UndefinedFeaturesWarning):
        got = fitted.predict([X[0], carbon])
    assert np.isfinite(got).all()
    with pytest.warns((UndefinedFeaturesWarning, UnusableRowsWarning)) as caught:
        got = fitted.predict([X[0], "no structure", carbon], on_error="nan")
    assert np.isnan(got).tolist() == [False, True, False]
    assert {one.category for one in caught} == {UndefinedFeaturesWarning, UnusableRowsWarning}


def test_column_without_numbers_is_nothing(make, labelled):
    class Hollow(Sizes):
        def featurize(self, structure):
            return np.r_[super().featurize(structure)[:4], np.nan]

    X, y = labelled
    assert np.isfinite(make(["a", Hollow()]).fit(X, y).predict(X)).all()


# --- the guard ---------------------------------------------------------------------------------------


@pytest.fixture
def fallen(make, labelled, monkeypatch):
    """Function that returns a fitted mixture whose guard finds the answer of a given name to be the best."""

    def fallen(name, **parameters):
        table = Guard.table
        monkeypatch.setattr(
            Guard, "table", lambda self: table(self).sort_index(key=lambda index: index != name)
        )
        return make(**{"guard": "fallback", **parameters}).fit(*labelled)

    return fallen


def test_ridge_reads_features_of_featurizers(fallen, labelled, modules):
    X, y = labelled
    fitted = fallen("ridge", n_active=1, gate_init=[1.0, 0.0, 0.0])
    assert fitted.answer_ == "ridge"
    assert "zero-shot Sizes" not in fitted.guard_.index
    assert np.abs(fitted.predict(X) - y).mean() < 0.1 * y.std()


def test_scratch_takes_the_first_network_that_was_kept(fallen, labelled):
    fitted = fallen("scratch", guard_scratch=True, experts=[Sizes(), "b", "a"])
    assert "scratch" in fitted.guard_.index
    assert np.isfinite(fitted.predict(labelled[0])).all()


@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.NegativeTransferWarning")
def test_scratch_is_left_out_where_no_network_was_kept(make, labelled):
    options = {"n_active": 1, "gate_init": [0.0, 0.0, 1.0], "guard": "report", "guard_scratch": True}
    assert "scratch" not in make(**options).fit(*labelled).guard_.index


# --- compositions ------------------------------------------------------------------------------------


def test_composition_of_features_weighs_featurizers(compose, labelled):
    X, _ = labelled
    fitted = compose([*"ab", Secret()]).fit(X, secrets(X))
    assert fitted.module_names_ == ["a", "b", "Secret"]
    assert fitted.weights_[2] > 0.9
    assert fitted.explain().index[0] == "Secret"
    assert np.isfinite(fitted.predict(X)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))


@pytest.mark.parametrize(("experts", "kind"), [(["a", Sizes()], "Add"), (["a", "wide", Sizes()], "Concat")])
def test_composition_adds_where_modules_have_one_width(experts, kind, compose, labelled):
    fitted = compose(experts, weighting="all-average").fit(*labelled)
    assert type(fitted.net_.module_.aggregation).__name__ == f"{kind}Features"


def test_parameters_of_featurizers_cannot_be_averaged(compose, labelled, built):
    message = "Got ['Sizes'] in 'modules'. Use combine='features'"
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        compose(combine="parameters").fit(*labelled)
    assert built == []


# --- save and load -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"experts": [*"ab", "featurizer:sizes"]},
        {"aggregation": "concat"},
        {"aggregation": "ensemble", "standardize": False},
        {"width": 5},
        {"n_active": 1, "gate_init": [0.0, 0.0, 1.0]},
        {"n_active": 1, "gate_init": [0.0, 1.0, 0.0]},
    ],
    ids=str,
)
def test_saved_mixture_predicts_the_same(parameters, make, labelled, installed, tmp_path):
    X, y = labelled
    fitted = make(**parameters).fit(X, y)
    fitted.save(tmp_path / "mixture")
    loaded = load_estimator(tmp_path / "mixture")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    pd.testing.assert_frame_equal(loaded.explain(), fitted.explain())
    np.testing.assert_array_equal(loaded.fit(X, y).predict(X), fitted.predict(X))
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(load_estimator(tmp_path / "again").predict(X), fitted.predict(X))


@pytest.mark.parametrize("answer", ["ridge", "median", "zero-shot a", "mixture"])
def test_saved_answer_predicts_the_same(answer, fallen, labelled, installed, tmp_path):
    X, _ = labelled
    fitted = fallen(answer, n_active=1, gate_init=[1.0, 0.0, 0.0])
    fitted.save(tmp_path / "mixture")
    loaded = load_estimator(tmp_path / "mixture")
    assert loaded.answer_ == answer
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_saved_composition_predicts_the_same(compose, labelled, installed, tmp_path):
    X, y = labelled
    fitted = compose(weighting="all-average").fit(X, y)
    fitted.save(tmp_path / "composition")
    loaded = load_estimator(tmp_path / "composition")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    pd.testing.assert_frame_equal(loaded.explain(), fitted.explain())


@pytest.mark.parametrize("kind", ["make", "compose"])
def test_featurizer_that_nobody_can_load_is_refused_before_anything_is_written(
    kind, make, compose, labelled, tmp_path
):
    fitted = {"make": make, "compose": compose}[kind]().fit(*labelled)
    with pytest.raises(InvalidParameterError, match=r"Sizes\(\) cannot be saved.*'matmosaic.featurizers'"):
        fitted.save(tmp_path / "mixture")
    assert list(tmp_path.iterdir()) == []


def test_other_version_of_a_featurizer_is_refused(make, labelled, installed, tmp_path):
    make([*"ab", "featurizer:sizes"]).fit(*labelled).save(tmp_path / "mixture")
    installed["sizes"] = Newer
    with pytest.raises(ModuleFormatError, match=r"fitted to features of .*version 1, but 'featurizer:sizes'"):
        load_estimator(tmp_path / "mixture")


def test_missing_featurizer_is_named(make, labelled, installed, tmp_path):
    make([*"ab", "featurizer:sizes"]).fit(*labelled).save(tmp_path / "mixture")
    del installed["sizes"]
    with pytest.raises((UnknownNameError, PluginError), match="sizes"):
        load_estimator(tmp_path / "mixture")


def test_card_of_a_featurizer_is_read_strictly(make, labelled, installed, tmp_path):
    make().fit(*labelled).save(tmp_path / "mixture")
    path = tmp_path / "mixture" / "experts.json"
    cards = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([*cards[:2], {**cards[2], "colour": "red"}]), encoding="utf-8")
    with pytest.raises(ModuleFormatError, match="Unknown field 'colour'"):
        load_estimator(tmp_path / "mixture")


# --- bad input ---------------------------------------------------------------------------------------


def test_table_of_graphs_holds_no_structures(make, labelled):
    X, y = labelled
    table = GraphTable.from_structures(X)
    message = r"holds no structures for the featurizers \['Sizes'\] to read. Give structures"
    with pytest.raises(InvalidParameterError, match=message):
        make().fit(table, y)


def test_equal_featurizers_are_refused(make, labelled):
    with pytest.raises(InvalidParameterError, match=r"several times: \['Sizes', 'Sizes'\]"):
        make([Sizes(), "a", Sizes()]).fit(*labelled)


def test_unknown_featurizer_gets_a_guess(make, labelled, installed):
    with pytest.raises(UnknownNameError, match="Did you mean 'sizes'"):
        make(["a", "featurizer:size"]).fit(*labelled)


def test_warning_of_the_guard_names_the_better_answer(fallen):
    with pytest.warns(NegativeTransferWarning, match="'ridge' has a smaller validation error"):
        fallen("ridge", guard="report")
