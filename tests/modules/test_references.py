"""References: what users write where a module is expected."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, ModuleFormatError, UnknownNameError
from matmosaic.modules import DirectoryStore, list_modules, load_module, resolve
from matmosaic.modules.references import _parse, store_names


@pytest.fixture
def names():
    return ["eform", "evol", "gap"]


@pytest.fixture
def folder(tmp_path, make, names):
    store = DirectoryStore(tmp_path / "modules")
    for seed, name in enumerate(names):
        store.save(make(name, seed=seed))
    return store.path


@pytest.fixture
def _toy(folder, monkeypatch):
    """A store plugin named toy over the folder."""
    original = plugins.load
    toy = {"toy": lambda: DirectoryStore(folder)}
    monkeypatch.setattr(plugins, "load", lambda kind, name: toy.get(name) or original(kind, name))


def found(reference):
    return [module.card.name for module in resolve(reference)]


def test_a_module_stands_for_itself(module):
    assert resolve(module) == [module]
    assert load_module(module) is module


@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_path_of_a_module(folder, kind):
    assert load_module(kind(folder / "gap")).card.name == "gap"
    assert list_modules(kind(folder / "gap")) == [str(folder / "gap")]


def test_relative_path_and_home(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert found("gap") == ["gap"]
    assert found("./gap") == ["gap"]
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert found("~/gap") == ["gap"]


def test_globs_of_paths(folder, names):
    assert found(folder / "*") == names
    assert found(f"{folder}/e*") == ["eform", "evol"]
    assert list_modules(folder / "x*") == []
    with pytest.raises(UnknownNameError, match="No module matches"):
        resolve(folder / "x*")


def test_existing_path_with_glob_signs_is_taken_literally(tmp_path, module):
    module.save(tmp_path / "run[1]")
    assert load_module(tmp_path / "run[1]") == module


@pytest.mark.usefixtures("_toy")
def test_store_references(names):
    assert found("toy:gap") == ["gap"]
    assert found("toy:*") == names
    assert found("toy:e[fv]*") == ["eform", "evol"]
    assert list_modules("toy:e*") == ["toy:eform", "toy:evol"]
    assert list_modules("toy:x*") == []


@pytest.mark.usefixtures("_toy")
def test_versions():
    assert found("toy:gap@1") == ["gap"]
    with pytest.raises(UnknownNameError, match=r"'toy:gap' is not there in version '2'\. Valid: 'toy:gap@1'"):
        resolve("toy:gap@2")


@pytest.mark.usefixtures("_toy")
def test_unknown_module_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'eform'"):
        resolve("toy:efrom")
    with pytest.raises(UnknownNameError, match="Valid: 'toy:eform', 'toy:evol', 'toy:gap'"):
        resolve("toy:x*")


def test_unknown_store_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"Unknown store 'bundle'\. Did you mean 'bundled'\?"):
        resolve("bundle:gap")


@pytest.mark.parametrize("name", ["../gap", "a/b", "..\\gap"])
@pytest.mark.usefixtures("_toy")
def test_path_traversal_is_refused(name):
    with pytest.raises(InvalidParameterError, match="cannot name a module"):
        resolve(f"toy:{name}")


def test_several_modules_where_one_is_expected(folder):
    with pytest.raises(InvalidParameterError, match=r"stands for several modules.*gap"):
        load_module(folder / "*")


def test_what_was_meant_is_said(folder, tmp_path):
    with pytest.raises(UnknownNameError, match=r"holds modules but is none; write .*modules.\*"):
        resolve(folder)
    with pytest.raises(UnknownNameError, match="A name needs its store: .*'bundled:mp_eform'"):
        resolve("mp_eform")
    with pytest.raises(UnknownNameError, match="no module at"):
        resolve(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModuleFormatError, match="is no module"):
        list_modules(tmp_path / "empty")
    with pytest.raises(InvalidParameterError, match=r"Got 3\."):
        resolve(3)


def test_names_of_hubs_are_proposed(monkeypatch):
    opener = SimpleNamespace(names=lambda: ["lab"], open=lambda location: None)
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda kind: ["hub"] if kind == "openers" else names(kind))
    monkeypatch.setattr(
        plugins, "load", lambda kind, name: (lambda: opener) if kind == "openers" else load(kind, name)
    )
    assert store_names() == [*names("stores"), "lab"]
    with pytest.raises(UnknownNameError, match="A name needs its store: 'bundled:gap', .*'lab:gap'"):
        resolve("gap")
    with pytest.raises(UnknownNameError, match=r"write 'lab:NAME' for one of its modules, 'lab:\*' for all"):
        list_modules("lab")


def test_without_the_plugin_for_hubs_stores_are_proposed(monkeypatch):
    names = plugins.names
    monkeypatch.setattr(plugins, "names", lambda kind: [] if kind == "openers" else names(kind))
    assert store_names() == names("stores")


@pytest.mark.parametrize("path", [r"C:\modules\gap", "C:modules", "/a/b:c", "./a:b", "~/a:b", "gap"])
def test_paths_are_not_taken_for_stores(path):
    assert isinstance(_parse(path), Path)


def test_bundled_modules_are_listed_by_reference():
    assert all(reference.startswith("bundled:") for reference in list_modules())
    assert len(list_modules()) == len(plugins.load("stores", "bundled")().names())


@pytest.mark.parametrize("function", [resolve, load_module, list_modules])
def test_featurizers_are_no_modules(function):
    message = "A module is expected. 'featurizer:module' is a featurizer, .* make_pipeline"
    with pytest.raises(InvalidParameterError, match=message):
        function("featurizer:module")
