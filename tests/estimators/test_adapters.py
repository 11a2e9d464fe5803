"""Adapters in estimators: what is trained, what is exported, and what is saved."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from matmosaic import ModuleFeaturizer, MoERegressor, PretrainedModule, TransferRegressor, load_module
from matmosaic.estimators import _adapters, load_estimator
from matmosaic.exceptions import InvalidParameterError, UnknownNameError
from matmosaic.modules import DirectoryStore, _base

CARD = {"name": "adapters", "target": "volume", "unit": "angstrom^3/atom"}


@pytest.fixture(autouse=True)
def _nothing_in_use(monkeypatch):
    """Each test looks for bases as the first in its process."""
    monkeypatch.setattr(_base, "_in_use", {})


@pytest.fixture
def fitted(make, labelled):
    return make(unfrozen="adapters").fit(*labelled)


@pytest.fixture
def adapters(fitted):
    return fitted.to_module(**CARD)


# --- training ------------------------------------------------------------------------------------------


def test_adapters_alone_are_trained(fitted, module):
    state = fitted.net_.module_.backbone.state_dict()
    for name, value in module.build_backbone().state_dict().items():
        assert torch.equal(state[f"base.{name}"], value)
    assert all(name.startswith("adapters.") for name in fitted.unfrozen_)
    moved = [name for name, value in state.items() if name.endswith("up.weight") and value.abs().sum() > 0]
    assert len(moved) == 2  # The embedding's, and that between the two convolutions.


def test_what_stands_before_the_first_adapter_is_run_once(fitted):
    assert fitted.net_.module_.depth == 1


def test_before_training_features_are_those_of_the_module(make, module, labelled):
    X, y = labelled
    untrained = make(unfrozen="adapters", head="inherit", max_epochs=0).fit(X, y)
    np.testing.assert_array_equal(untrained.predict(X), module.predict(X))


def test_adapters_need_a_module(labelled):
    with pytest.raises(InvalidParameterError, match="unfrozen='adapters' trains adapters of a module"):
        TransferRegressor(unfrozen="adapters").fit(*labelled)


@pytest.mark.parametrize("unfrozen", ["adapter", ["last", "adapter"]])
def test_misspelt_adapters(make, labelled, unfrozen):
    with pytest.raises(UnknownNameError, match="'adapter'. Did you mean 'adapters'"):
        make(unfrozen=unfrozen).fit(*labelled)


def test_mixture_inserts_no_adapters(modules, adapters, labelled):
    message = (
        "MoERegressor inserts no adapters, and not all modules have some. Use unfrozen='last', or modules"
    )
    with pytest.raises(InvalidParameterError, match=message):
        MoERegressor([adapters, modules["b"]], unfrozen="adapters").fit(*labelled)
    MoERegressor([adapters], unfrozen="adapters", max_epochs=1).fit(*labelled)


def test_search_finds_what_to_train(make, labelled):
    search = GridSearchCV(make(max_epochs=1), {"unfrozen": ["head", "adapters", ["adapters", "last"]]}, cv=2)
    search.fit(labelled[0], labelled[1])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# --- modules -------------------------------------------------------------------------------------------


def test_module_of_adapters(fitted, adapters, module, labelled):
    X, _ = labelled
    card = adapters.card
    assert (card.kind, card.base, card.adapter) == ("adapter", module.card.sha256, {"reduction": 2})
    assert all(name.startswith(("backbone.adapters.", "head.")) for name in adapters.weights)
    np.testing.assert_array_equal(adapters.predict(X), fitted.predict(X))
    assert len(card.golden) == 3


def test_whole_network_with_adapters(fitted, module, labelled):
    whole = fitted.to_module(**CARD, kind="full")
    assert (whole.card.kind, whole.card.base, whole.card.adapter) == (
        "full",
        module.card.sha256,
        {"reduction": 2},
    )
    np.testing.assert_array_equal(whole.predict(labelled[0]), fitted.predict(labelled[0]))


def test_reference_of_the_base_is_kept(labelled):
    X, y = labelled
    estimator = TransferRegressor("bundled:emt-eform", unfrozen="adapters", max_epochs=1, random_state=0)
    assert estimator.fit(X, y).to_module(**CARD).card.base_reference == "bundled:emt-eform"


def test_path_of_the_base_is_not_kept(make, module_path, labelled, tmp_path):
    adapters = make(module=module_path, unfrozen="adapters").fit(*labelled).to_module(**CARD)
    assert adapters.card.base_reference == ""
    adapters.save(tmp_path / "adapters")
    _base._in_use.clear()
    with pytest.raises(UnknownNameError, match="was not found"):
        PretrainedModule.load(tmp_path / "adapters")
    shutil.copytree(module_path, tmp_path / "tiny")
    assert PretrainedModule.load(tmp_path / "adapters") == adapters


@pytest.mark.parametrize("unfrozen", ["last", ["adapters", "last"], "all"], ids=str)
def test_more_than_adapters_is_a_whole_network(make, adapters, labelled, unfrozen):
    fitted = make(module=adapters, unfrozen=unfrozen).fit(*labelled)
    whole = fitted.to_module(**CARD)
    assert (whole.card.kind, whole.card.base) == ("full", adapters.card.sha256)
    with pytest.raises(InvalidParameterError, match=r"trained 'base\.stages\.\w+\.\w+\.weight' and more"):
        fitted.to_module(**CARD, kind="adapter")


def test_no_adapters_no_module_of_adapters(make, labelled):
    fitted = make(unfrozen="last").fit(*labelled)
    assert fitted.to_module(**CARD).card.adapter == {}
    with pytest.raises(InvalidParameterError, match="has no adapters in its network; fit with"):
        fitted.to_module(**CARD, kind="adapter")
    with pytest.raises(InvalidParameterError, match="Did you mean 'adapter'"):
        fitted.to_module(**CARD, kind="adapters")


@pytest.mark.parametrize("unfrozen", ["adapters", "head"])
def test_adapters_are_trained_further(make, adapters, module, labelled, unfrozen):
    again = make(module=adapters, unfrozen=unfrozen).fit(*labelled).to_module(**CARD)
    assert (again.card.kind, again.card.base) == ("adapter", module.card.sha256)
    same = all(
        torch.equal(value, adapters.weights[name])
        for name, value in again.weights.items()
        if name.startswith("backbone.")
    )
    assert same is (unfrozen == "head")


def test_mean_of_adapters_is_a_module(make, module, labelled):
    """Weights are named as in any module, so whoever averages modules needs to know nothing of adapters."""
    X, y = labelled
    two = [make(unfrozen="adapters", random_state=seed).fit(X, y).to_module(**CARD) for seed in (0, 1)]
    weights = {name: (value + two[1].weights[name]) / 2 for name, value in two[0].weights.items()}
    fields = {**two[0].card.to_dict(), "sha256": None, "golden": []}
    mean = PretrainedModule(type(two[0].card)(**fields), weights, base=two[0].base)
    assert mean.predict(X).shape == y.shape


def test_adapters_of_several_properties(make_mpt, several, table):
    X, Y = table
    fitted = make_mpt(module=several, unfrozen="adapters", head="inherit").fit(X, Y)
    adapters = fitted.to_module(name="three", unit="1")
    assert (adapters.card.kind, len(adapters.card.properties)) == ("adapter", 3)
    np.testing.assert_allclose(adapters.predict(X), np.asarray(fitted.predict(X)), rtol=1e-5)


# --- wherever modules are taken ------------------------------------------------------------------------


def test_features_and_mixtures(adapters, modules, labelled, tmp_path):
    X, y = labelled
    assert ModuleFeaturizer(adapters).fit_transform(X).shape == (len(X), 8)
    mixture = MoERegressor([adapters, modules["b"]], unfrozen="last", max_epochs=2, random_state=0).fit(X, y)
    mixture.save(tmp_path / "mixture")
    np.testing.assert_array_equal(load_estimator(tmp_path / "mixture").predict(X), mixture.predict(X))


def test_adapters_in_a_store(adapters, module, labelled, tmp_path, make):
    store = DirectoryStore(tmp_path / "store")
    store.save(adapters)
    store.save(module)
    _base._in_use.clear()
    fitted = make(module=str(store.path / "adapters"), unfrozen="adapters").fit(*labelled)
    assert fitted.module_card_ == adapters.card
    assert store.load("adapters").verify() < 1e-5


# --- files and copies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["module", "adapters", "path"])
def test_saved_estimator_is_complete(make, start, module, adapters, module_path, labelled, tmp_path):
    X, y = labelled
    given = {"module": module, "adapters": adapters, "path": module_path}[start]
    fitted = make(module=given, unfrozen="adapters").fit(X, y)
    fitted.save(tmp_path / "model", target="volume", unit="angstrom^3/atom")
    _base._in_use.clear()
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.unfrozen_ == fitted.unfrozen_
    assert PretrainedModule.load(tmp_path / "model").card.kind == "full"
    assert loaded.to_module(**CARD) == fitted.to_module(**CARD)
    assert clone(loaded).fit(X, y).to_module(**CARD) == fitted.to_module(**CARD)


def test_saved_estimator_without_its_base(make, module_path, labelled, tmp_path):
    shutil.copytree(module_path, tmp_path / "tiny")
    fitted = make(module=tmp_path / "tiny", unfrozen="adapters").fit(*labelled)
    fitted.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "tiny")
    _base._in_use.clear()
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(labelled[0]), fitted.predict(labelled[0]))
    assert loaded.to_module(**CARD, kind="full").card.kind == "full"
    with pytest.raises(UnknownNameError, match="was not found"):
        loaded.to_module(**CARD)


def test_loading_an_estimator_looks_for_no_module(make, module_path, labelled, tmp_path, monkeypatch):
    fitted = make(module=module_path, unfrozen="adapters").fit(*labelled)
    fitted.save(tmp_path / "model")
    looked = []
    monkeypatch.setattr(_adapters, "load_module", lambda given: looked.append(given) or load_module(given))
    loaded = load_estimator(tmp_path / "model")
    loaded.predict(labelled[0])
    loaded.to_module(**CARD, kind="full")
    assert not looked
    assert loaded.to_module(**CARD).card.kind == "adapter"
    assert len(looked) == 1


def test_pickled_estimator_exports_the_same(fitted, adapters):
    _base._in_use.clear()
    assert pickle.loads(pickle.dumps(fitted)).to_module(**CARD) == adapters
