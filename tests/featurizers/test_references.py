"""References: what users write where a featurizer, or a source of features, is expected."""

from functools import partial

import pytest

from matmosaic import load_module, plugins
from matmosaic.exceptions import InvalidParameterError, PluginError, UnknownNameError
from matmosaic.featurizers import (
    Featurizer,
    ModuleFeaturizer,
    featurizer_reference,
    load_featurizer,
    resolve_sources,
)


def broken():
    raise RuntimeError("no data")


def lacking():
    import nowhere_to_be_found  # noqa: F401


def newer(density):
    """Make an object of a class that expects more of matmosaic than there is."""
    return type("Newer", (density,), {"contract": 99})()


def info(name, reference):
    return plugins.PluginInfo(
        group="matmosaic.featurizers", name=name, distribution="d", version="1", reference=reference
    )


@pytest.fixture(autouse=True)
def _plugins(density, monkeypatch):
    """Pretend that some featurizers are installed."""
    found = {
        "density": density,
        "dense": lambda: density(2.0),
        "partial": partial(density, 3.0),
        "newer": lambda: newer(density),
        "module": ModuleFeaturizer,
        "nothing": lambda: 3,
        "wanting": partial(ModuleFeaturizer, device="cpu"),
        "broken": broken,
        "lacking": lacking,
    }
    infos = [info(name, "a.b:c") for name in found]
    original, owner = plugins.load, plugins._owner
    monkeypatch.setattr(
        plugins, "names", lambda kind: sorted(found) if kind == "featurizers" else ["bundled"]
    )
    monkeypatch.setattr(plugins, "list_plugins", lambda: infos)
    monkeypatch.setattr(
        plugins, "_owner", lambda kind, name: info(name, "a.b:c") if name in found else owner(kind, name)
    )
    monkeypatch.setattr(
        plugins, "load", lambda kind, name: found[name] if name in found else original(kind, name)
    )


def test_name_of_a_plugin(density):
    assert isinstance(load_featurizer("featurizer:density"), density)
    assert load_featurizer("featurizer:dense").scale == 2.0
    assert load_featurizer("featurizer:partial").scale == 3.0


def test_featurizer_stands_for_itself(density):
    featurizer = density()
    assert load_featurizer(featurizer) is featurizer


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("featurizer:densty", UnknownNameError, "Unknown featurizer 'densty'. Did you mean 'density'"),
        ("featurizer:", UnknownNameError, "Unknown featurizer ''"),
        ("density", InvalidParameterError, "Got 'density'. Write 'featurizer:density'"),
        ("bundled:emt-eform", InvalidParameterError, r"write ModuleFeaturizer\('bundled:emt-eform'\)"),
        (3, InvalidParameterError, "A featurizer is expected as 'featurizer:NAME' or as an object. Got 3"),
        (ModuleFeaturizer, InvalidParameterError, r"Pass an object: ModuleFeaturizer\(\)"),
        ("featurizer:module", InvalidParameterError, r"needs arguments, .*: ModuleFeaturizer\(module=...\)"),
        ("featurizer:nothing", PluginError, "must yield a .*Featurizer. Got an object of type int"),
        ("featurizer:wanting", InvalidParameterError, r"'featurizer:wanting': .*\(module=...\)"),
        ("featurizer:newer", PluginError, "'newer' of distribution 'd' 1 .* version 99 of the contract"),
        ("featurizer:broken", PluginError, r"cannot be made \(RuntimeError: no data\). Upgrade, reinstall"),
        ("featurizer:lacking", PluginError, "'nowhere_to_be_found', often by: pip install nowhere_to_be_f"),
        ("featurizer:matminer-fast", PluginError, "not installed: pip install matmosaic-matminer$"),
    ],
)
def test_what_is_no_featurizer(reference, error, message):
    with pytest.raises(error, match=message):
        load_featurizer(reference)


def test_reference_of_an_equal_featurizer(density):
    assert featurizer_reference(density()) == "featurizer:density"
    assert featurizer_reference(density(2.0, n_jobs=2)) == "featurizer:dense"
    assert featurizer_reference(density(4.0)) is None


def test_reference_is_looked_for_where_the_class_comes_from(density, monkeypatch):
    infos = plugins.list_plugins()
    home = density.__module__.partition(".")[0]
    own = [info("density", f"{home}.b:c")]
    monkeypatch.setattr(plugins, "list_plugins", lambda: [*infos, *own])
    loaded, original = [], plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: loaded.append(name) or original(kind, name))
    assert featurizer_reference(density()) == "featurizer:density"
    assert loaded == ["density"]


def test_sources_keep_their_order(density, tmp_path):
    module = load_module("bundled:emt-eform")
    module.save(tmp_path / "saved")
    featurizer = density(5.0)
    found = resolve_sources(["featurizer:dense", "bundled:emt-*", featurizer, tmp_path / "saved", module])
    names = [one if isinstance(one, Featurizer) else one.card.name for one in found]
    assert names[0].scale == 2.0
    assert names[1:-3] == sorted(names[1:-3])
    assert len(names[1:-3]) > 1
    assert names[-3:] == [featurizer, "emt-eform", "emt-eform"]


def test_one_source_needs_no_list(density, tmp_path):
    module = load_module("bundled:emt-eform")
    module.save(tmp_path / "saved")
    featurizer = density()
    assert resolve_sources(featurizer) == [featurizer]
    assert resolve_sources(module) == [module]
    for source in ("bundled:emt-eform", tmp_path / "saved"):
        assert [one.card.name for one in resolve_sources(source)] == ["emt-eform"]
    assert len(resolve_sources("featurizer:density")) == 1


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ([], InvalidParameterError, "At least one module or featurizer is expected"),
        ([3], InvalidParameterError, "Got 3"),
        (None, InvalidParameterError, "Got None"),
        ([ModuleFeaturizer], InvalidParameterError, "Pass an object"),
        (["featurizer:densty"], UnknownNameError, "Did you mean 'density'"),
        (["bundled:emt-efrom"], UnknownNameError, "Did you mean 'emt-eform'"),
    ],
)
def test_what_is_no_source(sources, error, message):
    with pytest.raises(error, match=message):
        resolve_sources(sources)
