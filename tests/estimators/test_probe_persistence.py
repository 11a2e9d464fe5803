"""Saved probes: arrays, and references to what computes the columns."""

import json
import re

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from matmosaic import DerivedFeature, ProbeRegressor, load_module
from matmosaic.datasets import load_alloys
from matmosaic.estimators import load_estimator
from matmosaic.estimators.moe import MoERegressor
from matmosaic.exceptions import (
    CorruptModuleError,
    InvalidParameterError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)
from matmosaic.featurizers import Featurizer, references
from matmosaic.modules import DirectoryStore, resolve

FILES = {"card.json", "estimator.json", "sources.json", "weights.safetensors"}


class Density(Featurizer):
    """One number."""

    def featurize(self, structure):
        return np.array([structure.density])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)"], dtype=object)


@pytest.fixture
def _plugin(monkeypatch):
    """Let "featurizer:density" load Density."""
    monkeypatch.setattr(references, "_load_plugin", lambda name: {"density": Density}[name]())
    monkeypatch.setattr(references, "_likely_names", lambda cls: iter(["density"]))


@pytest.fixture(scope="module")
def alloys():
    X, y = load_alloys("shear_modulus", return_X_y=True)
    return X[:40], y[:40]


@pytest.fixture(scope="module")
def probe(alloys):
    formula = DerivedFeature("K*V", unit="1", K="bundled:emt-bulk-modulus", V="bundled:emt-volume")
    return ProbeRegressor("bundled:emt-*", derived=formula, random_state=0).fit(*alloys)


@pytest.fixture
def saved(probe, tmp_path):
    probe.save(tmp_path / "probe", target="shear modulus", unit="GPa")
    return tmp_path / "probe"


def edit(path, change):
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_round_trip(probe, saved, alloys):
    loaded = ProbeRegressor.load(saved)
    X, y = alloys
    np.testing.assert_array_equal(loaded.predict(X), probe.predict(X))
    assert loaded.get_params() == probe.get_params()
    for name in ("sources_", "module_cards_", "n_train_", "best_params_"):
        assert getattr(loaded, name) == getattr(probe, name)
    for name in ("feature_names_", "selected_features_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(probe, name))
    assert loaded.explain().equals(probe.explain())
    np.testing.assert_array_equal(loaded.fit(X, y).predict(X), probe.predict(X))


@pytest.mark.parametrize("estimator", [None, "svr", "kernel_ridge", "gaussian_process", "ridge"])
@pytest.mark.parametrize("reduction", [None, "relevance", "pca"])
def test_every_regressor_of_arrays(estimator, reduction, alloys, tmp_path):
    X, y = alloys
    probe = ProbeRegressor("bundled:emt-volume", estimator=estimator, reduction=reduction, random_state=0)
    probe.fit(X, y, sample_weight=None if reduction else np.linspace(1, 2, 40)).save(tmp_path / "probe")
    loaded = load_estimator(tmp_path / "probe", device="cpu")
    np.testing.assert_array_equal(loaded.predict(X), probe.predict(X))
    if estimator in (None, "gaussian_process"):
        both = [one.predict(X[:9], return_std=True)[1] for one in (probe, loaded)]
        np.testing.assert_array_equal(*both)


def test_named_modules_are_references_with_versions(saved):
    assert {one.name for one in saved.iterdir()} == FILES
    modules = json.loads((saved / "sources.json").read_text(encoding="utf-8"))["modules"]
    for one in modules:
        assert one["reference"] == f"bundled:{one['name']}@1"
        assert one["sha256"] == load_module(one["reference"]).card.sha256
    card = json.loads((saved / "card.json").read_text(encoding="utf-8"))
    assert (card["target"], card["unit"], card["n_train"]) == ("shear modulus", "GPa", 40)


def test_modules_given_as_objects_and_paths_come_along(alloys, tmp_path, monkeypatch):
    X, y = alloys
    volume, pressure = load_module("bundled:emt-volume"), load_module("bundled:emt-pressure")
    pressure.save(tmp_path / "moved")
    formula = DerivedFeature("2*p", unit="GPa", p=load_module("bundled:emt-eform"))
    given = [volume, tmp_path / "moved"]
    probe = ProbeRegressor(given, derived=[formula], estimator="ridge", random_state=0).fit(X, y)
    probe.save(tmp_path / "probe")
    (tmp_path / "moved").rename(tmp_path / "gone")
    loaded = ProbeRegressor.load(tmp_path / "probe")
    np.testing.assert_array_equal(loaded.predict(X), probe.predict(X))
    assert loaded.sources == [volume, str(tmp_path / "moved")]
    assert loaded.derived == [formula]


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize("given", [Density(), "featurizer:density"])
def test_featurizers_are_references_with_identities(given, alloys, tmp_path, monkeypatch):
    X, y = alloys
    probe = ProbeRegressor(["bundled:emt-volume", given], estimator="ridge").fit(X, y)
    probe.save(tmp_path / "probe")
    loaded = ProbeRegressor.load(tmp_path / "probe")
    np.testing.assert_array_equal(loaded.predict(X), probe.predict(X))
    monkeypatch.setattr(Density, "version", "2")
    with pytest.raises(ModuleFormatError, match="is now .* Install the version of its plugin"):
        ProbeRegressor.load(tmp_path / "probe")


def test_featurizer_of_no_plugin_is_not_saved(alloys, tmp_path):
    probe = ProbeRegressor(["bundled:emt-volume", Density()], estimator="ridge").fit(*alloys)
    with pytest.raises(InvalidParameterError, match="no installed plugin yields this featurizer"):
        probe.save(tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


@pytest.mark.parametrize("estimator", ["trees", Ridge()])
def test_other_regressors_are_not_saved(estimator, alloys, tmp_path):
    probe = ProbeRegressor("bundled:emt-volume", estimator=estimator).fit(*alloys)
    with pytest.raises(InvalidParameterError, match="cannot be saved as arrays. Use estimator='svr'.*joblib"):
        probe.save(tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_other_weights_under_the_same_name(saved):
    path = saved / "sources.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(json.loads(text)["modules"][0]["sha256"], "0" * 64), encoding="utf-8")
    with pytest.raises(
        CorruptModuleError, match="was fitted to features of 'bundled:emt-.*Restore the module"
    ):
        ProbeRegressor.load(saved)


def test_module_that_is_gone(saved):
    def change(values):
        values["modules"][0]["reference"] = "bundled:emt-gone@1"

    edit(saved / "sources.json", change)
    with pytest.raises(UnknownNameError, match="emt-gone"):
        ProbeRegressor.load(saved)


def test_altered_arrays(saved):
    content = bytearray((saved / "weights.safetensors").read_bytes())
    content[-5] ^= 1
    (saved / "weights.safetensors").write_bytes(content)
    with pytest.raises(CorruptModuleError, match="truncated or altered"):
        load_estimator(saved)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("card.json", lambda values: values.update(format="matmosaic.probe/2"), "format"),
        ("card.json", lambda values: values.pop("owners"), "owners"),
        ("card.json", lambda values: values["regressor"].update(kind="forest"), "kind of regressor"),
        ("card.json", lambda values: values["regressor"].pop("offset"), "lacks the fields ['offset']"),
        ("card.json", lambda values: values["regressor"].update(amplitude=None), "'amplitude'"),
        ("card.json", lambda values: values["regressor"].update(offset="1"), "'offset'"),
        ("card.json", lambda values: values["regressor"].update(noise=-5), "'noise'"),
        ("card.json", lambda values: values["regressor"]["scale"].update(transform="exp"), "'exp'"),
        ("card.json", lambda values: values["regressor"]["scale"].update(std=0), "std"),
        ("card.json", lambda values: values["owners"].pop(), "'owners'"),
        ("card.json", lambda values: values["owners"].__setitem__(0, 99), "'owners'"),
        ("card.json", lambda values: values["importances"].pop(), "'importances'"),
        ("card.json", lambda values: values["source_names"].pop(), "card.json, field"),
        ("sources.json", lambda values: values.update(sources=[], derived=[]), "are empty"),
        ("sources.json", lambda values: values["derived"][0]["outputs"].update(K=[1]), "'outputs'"),
        ("sources.json", lambda values: values.update(more=1), "more"),
        ("sources.json", lambda values: values["sources"].append("0" * 64), "'modules' lacks"),
        ("sources.json", lambda values: values["derived"][0].update(formula="open(K)"), "open"),
    ],
)
def test_broken_files(name, change, message, saved):
    edit(saved / name, change)
    with pytest.raises((ModuleFormatError, InvalidParameterError), match=re.escape(message)):
        load_estimator(saved)


@pytest.mark.parametrize("name", sorted(FILES - {"estimator.json"}))
def test_missing_files(name, saved):
    (saved / name).unlink()
    with pytest.raises(ModuleFormatError):
        load_estimator(saved)


def test_other_class_is_refused(saved):
    with pytest.raises(ModuleFormatError, match="holds a ProbeRegressor. Expected a MoERegressor"):
        MoERegressor.load(saved)


def test_nothing_is_replaced_unasked(probe, saved):
    with pytest.raises(StoreError, match="already holds a saved estimator"):
        probe.save(saved)
    probe.save(saved, overwrite=True)


def test_a_probe_is_no_module(saved):
    with pytest.raises(ModuleFormatError, match="saved ProbeRegressor, which is no module: load it with"):
        load_module(saved)
    with pytest.raises(ModuleFormatError, match="saved ProbeRegressor"):
        resolve(saved.parent / "*")
    assert DirectoryStore(saved.parent).names() == []


def test_not_fitted(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        ProbeRegressor().save(tmp_path / "probe")
