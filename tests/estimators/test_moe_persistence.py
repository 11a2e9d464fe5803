"""Saving a mixture without pickle and loading it, with the simple answers that it may fall back to."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from matmosaic import GraphTable, MoERegressor, TransferRegressor, load_module
from matmosaic.estimators import load_estimator
from matmosaic.estimators._guard import Guard
from matmosaic.exceptions import (
    ArchitectureMismatchError,
    CorruptModuleError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules import DirectoryStore, PretrainedModule, list_modules, resolve

FILES = ["card.json", "estimator.json", "experts.json", "weights.safetensors"]


@pytest.fixture(scope="session")
def modules(labelled, module):
    """Three tiny modules; the last is wider and of one convolution."""
    X, y = labelled
    options = {"max_epochs": 4, "random_state": 1}
    inverse = TransferRegressor(backbone_options={"width": 8, "n_convolutions": 2}, **options).fit(X, 1 / y)
    wide = TransferRegressor(backbone_options={"width": 9, "n_convolutions": 1}, **options).fit(X, y**2)
    return [
        module,
        inverse.to_module(name="inverse", target="density", unit="atom/angstrom^3"),
        wide.to_module(name="wide", target="square", unit="angstrom^6"),
    ]


@pytest.fixture(scope="session")
def folder(modules, tmp_path_factory):
    """A directory of the three modules."""
    path = tmp_path_factory.mktemp("experts")
    for module in modules:
        module.save(path / module.card.name)
    return path


@pytest.fixture
def make(modules):
    """Function that makes a quick, reproducible mixture of given parameters."""

    def make(**parameters):
        defaults = {"modules": modules[:2], "max_epochs": 3, "random_state": 0}
        return MoERegressor(**{**defaults, **parameters})

    return make


@pytest.fixture
def saved(make, folder, labelled, tmp_path):
    """A fitted mixture, of modules given by path, of which a directory holds a copy, and that directory."""
    mixture = make(modules=[str(folder / "tiny"), folder / "inverse"]).fit(*labelled)
    mixture.save(tmp_path / "mixture", target="volume", unit="angstrom^3/atom")
    return mixture, tmp_path / "mixture"


@pytest.fixture
def fallen(make, modules, labelled, monkeypatch):
    """Function that returns a fitted mixture whose guard finds the answer of a given name to be the best."""

    def fallen(name, **parameters):
        table = Guard.table
        monkeypatch.setattr(
            Guard, "table", lambda self: table(self).sort_index(key=lambda index: index != name)
        )
        return make(modules=modules, width=4, guard="fallback", **parameters).fit(*labelled)

    return fallen


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def rewrite(path, **fields):
    document = json.loads(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        document.pop(name) if value is None else document.update({name: value})
    path.write_text(json.dumps(document), encoding="utf-8")


# --- save and load -----------------------------------------------------------------------------------


def test_loaded_mixture_is_the_saved_one(saved, labelled):
    mixture, directory = saved
    loaded = MoERegressor.load(directory)
    assert names(directory) == FILES
    np.testing.assert_array_equal(loaded.predict(labelled[0]), mixture.predict(labelled[0]))
    np.testing.assert_array_equal(loaded.gate_scores_, mixture.gate_scores_)
    pd.testing.assert_frame_equal(loaded.history_, mixture.history_)
    pd.testing.assert_frame_equal(loaded.explain(), mixture.explain())
    for name in (
        *("module_names_", "module_cards_", "unfrozen_", "best_epoch_", "scale_", "n_train_"),
        *("guard_", "answer_", "_fingerprints", "_chosen"),
    ):
        assert getattr(loaded, name) == getattr(mixture, name), name


def test_loaded_mixture_fits_as_the_saved_one(saved, labelled):
    mixture, directory = saved
    again = load_estimator(directory).fit(*labelled)
    np.testing.assert_array_equal(again.predict(labelled[0]), mixture.predict(labelled[0]))


def test_loaded_mixture_saves_and_pickles(saved, tmp_path):
    _, directory = saved
    loaded = pickle.loads(pickle.dumps(MoERegressor.load(directory)))
    loaded.save(tmp_path / "again", target="volume", unit="angstrom^3/atom")
    for name in ("card.json", "experts.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes(), name


def test_what_is_trained_is_restored(saved):
    mixture, directory = saved
    trained, again = (
        {name: parameter.requires_grad for name, parameter in one.net_.module_.named_parameters()}
        for one in (mixture, load_estimator(directory))
    )
    assert again == trained
    assert set(again.values()) == {True, False}


def test_another_process_needs_neither_structures_nor_modules(make, modules, labelled, tmp_path):
    for module in modules[:2]:
        module.save(tmp_path / "gone" / module.card.name)
    mixture = make(modules=str(tmp_path / "gone" / "*")).fit(*labelled)
    mixture.save(tmp_path / "mixture")
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    GraphTable.from_structures(labelled[0]).save(tmp_path / "table")
    code = f"""
import numpy as np
from matmosaic import GraphTable, MoERegressor
table = GraphTable.load({str(tmp_path / "table")!r})
np.save({str(tmp_path / "predicted.npy")!r}, MoERegressor.load({str(tmp_path / "mixture")!r}).predict(table))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "predicted.npy"), mixture.predict(labelled[0]))


@pytest.mark.parametrize(
    "parameters",
    [
        {"aggregation": "concat", "unfrozen": ("conv_1",), "head_widths": ()},
        {"aggregation": "ensemble", "unfrozen": "all", "standardize": False, "head_widths": [4]},
        {"aggregation": "add", "width": 5, "unfrozen": ["head"], "gate_penalty": 0},
        {"n_active": 1, "gate_init": "uniform"},
        {"n_active": 1, "gate_init": [0.5, 2.0]},
        {"n_active": np.int64(1), "gate_init": "proxy", "validation_fraction": 0, "patience": None},
        {"max_epochs": 0, "validation_fraction": 0},
    ],
    ids=lambda parameters: "-".join(map(str, parameters.values())),
)
def test_parameters_and_predictions_are_restored(parameters, make, modules, labelled, tmp_path):
    wide = parameters.get("width") or parameters.get("aggregation", "add") != "add"
    mixture = make(modules=tuple(modules[::2] if wide else modules[:2]), **parameters).fit(*labelled)
    mixture.save(tmp_path / "mixture")
    loaded = load_estimator(tmp_path / "mixture")
    assert loaded.get_params() == mixture.get_params()
    assert type(loaded.modules) is tuple
    np.testing.assert_array_equal(loaded.predict(labelled[0]), mixture.predict(labelled[0]))
    np.testing.assert_array_equal(loaded.gate_scores_, mixture.gate_scores_)


def test_numbers_of_numpy_are_saved_as_plain_ones(make, labelled, tmp_path):
    given = {"width": np.int64(8), "head_widths": np.array([8]), "n_active": np.int64(2)}
    mixture = make(**given, gate_init="uniform").fit(*labelled)
    mixture.save(tmp_path / "mixture")
    loaded = load_estimator(tmp_path / "mixture")
    assert (loaded.width, loaded.head_widths, loaded.n_active) == (8, [8], 2)
    np.testing.assert_array_equal(loaded.predict(labelled[0]), mixture.predict(labelled[0]))


def test_modules_in_an_array_come_back_as_a_list(make, modules, labelled, tmp_path):
    make(modules=np.array(modules[:2]), max_epochs=1).fit(*labelled).save(tmp_path / "mixture")
    assert load_estimator(tmp_path / "mixture").modules == modules[:2]


def test_parameters_changed_after_fit_leave_what_was_learnt(saved, labelled, tmp_path):
    mixture, _ = saved
    expected = mixture.predict(labelled[0])
    mixture.set_params(aggregation="concat", head_widths=(3,), width=7, unfrozen="all", modules="bundled:*")
    mixture.save(tmp_path / "changed")
    np.testing.assert_array_equal(load_estimator(tmp_path / "changed").predict(labelled[0]), expected)


def test_given_modules_are_restored(make, modules, folder, labelled, tmp_path):
    make(modules=[modules[0], str(folder / "inverse")]).fit(*labelled).save(tmp_path / "mixture")
    prefix = f"start.{modules[0].card.sha256[:16]}."
    assert names(tmp_path / "mixture") == sorted(
        [*FILES, f"{prefix}card.json", f"{prefix}weights.safetensors"]
    )
    assert load_estimator(tmp_path / "mixture").modules == [modules[0], str(folder / "inverse")]


def test_loading_touches_no_global_numbers(saved):
    before = torch.random.get_rng_state()
    load_estimator(saved[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_device_may_be_another_than_the_saved_one(saved, labelled):
    mixture, directory = saved
    document = directory / "estimator.json"
    parameters = json.loads(document.read_text(encoding="utf-8"))["parameters"]
    rewrite(document, parameters={**parameters, "device": "cuda:99"})
    with pytest.raises(ValueError, match="'device' must be"):
        MoERegressor.load(directory)
    moved = MoERegressor.load(directory, device="cpu")
    np.testing.assert_array_equal(moved.predict(labelled[0]), mixture.predict(labelled[0]))


# --- simple answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("mixture", []),
        ("median", ["tiny"]),
        ("zero-shot inverse", ["inverse"]),
        ("ridge", ["tiny", "inverse", "wide"]),
        ("scratch", []),
    ],
)
def test_answer_is_restored(name, read, fallen, modules, folder, labelled, tmp_path):
    mixture = fallen(name, guard_scratch=name == "scratch")
    expected = mixture.predict(labelled[0])
    mixture.set_params(modules=str(folder / "*")).save(tmp_path / "mixture")
    loaded = load_estimator(tmp_path / "mixture", device="cpu")
    assert loaded.answer_ == name
    pd.testing.assert_frame_equal(loaded.guard_, mixture.guard_, check_exact=True)
    np.testing.assert_array_equal(loaded.predict(labelled[0]), expected)
    stored = {one.split(".")[1] for one in names(tmp_path / "mixture") if one.startswith("start.")}
    assert stored == {one.card.sha256[:16] for one in modules if one.card.name in read}
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(load_estimator(tmp_path / "again").predict(labelled[0]), expected)


def test_modules_of_an_answer_are_stored_once(fallen, labelled, tmp_path):
    mixture = fallen("ridge")
    mixture.save(tmp_path / "mixture")
    assert len(names(tmp_path / "mixture")) == len(FILES) + 2 * 3
    loaded = load_estimator(tmp_path / "mixture")
    assert loaded.modules == mixture.modules
    np.testing.assert_array_equal(loaded.predict(labelled[0]), mixture.predict(labelled[0]))


def test_errors_that_are_not_finite_are_restored(fallen, tmp_path):
    mixture = fallen("median")
    mixture.guard_.loc["mixture", "valid_mae"] = np.nan
    mixture.save(tmp_path / "mixture")
    pd.testing.assert_frame_equal(load_estimator(tmp_path / "mixture").guard_, mixture.guard_)


def test_report_alone_stores_no_module(make, folder, labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(Guard, "warn", lambda self: None)
    mixture = make(modules=[str(folder / "tiny"), str(folder / "inverse")], guard="report").fit(*labelled)
    mixture.save(tmp_path / "mixture")
    assert names(tmp_path / "mixture") == FILES
    pd.testing.assert_frame_equal(load_estimator(tmp_path / "mixture").guard_, mixture.guard_)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_missing_module_of_an_answer_is_named(name, fallen, tmp_path):
    fallen("zero-shot inverse").set_params(modules="bundled:*").save(tmp_path / "mixture")
    (path,) = (tmp_path / "mixture").glob(f"start.*.{name}")
    path.unlink()
    with pytest.raises(ModuleFormatError, match=f"start.*{name}"):
        load_estimator(tmp_path / "mixture")


def test_altered_module_of_an_answer_is_refused(fallen, modules, tmp_path):
    fallen("zero-shot inverse").set_params(modules="bundled:*").save(tmp_path / "mixture")
    prefix = f"start.{modules[1].card.sha256[:16]}."
    for name, content in modules[0].to_files().items():
        (tmp_path / "mixture" / f"{prefix}{name}").write_bytes(content)
    with pytest.raises(CorruptModuleError, match="holds other weights than"):
        load_estimator(tmp_path / "mixture")


@pytest.mark.parametrize("name", ["card.json", "estimator.json", "weights.safetensors"])
def test_missing_file_of_a_scratch_answer_is_named(name, fallen, tmp_path):
    fallen("scratch", guard_scratch=True).save(tmp_path / "mixture")
    (tmp_path / "mixture" / f"scratch.{name}").unlink()
    with pytest.raises(ModuleFormatError, match=rf"scratch\..*{name}"):
        load_estimator(tmp_path / "mixture")


# --- what is refused ---------------------------------------------------------------------------------


def test_directory_is_replaced_only_on_request(saved, make, module, labelled, tmp_path):
    mixture, directory = saved
    with pytest.raises(StoreError, match="already holds a saved estimator"):
        mixture.save(directory)
    other = make(max_epochs=1).fit(*labelled)
    other.save(directory, overwrite=True)
    assert load_estimator(directory).max_epochs == 1
    mixture.save(directory, overwrite=True)
    assert names(directory) == FILES  # no ``start.`` of the other
    module.save(directory, overwrite=True)
    assert load_module(directory) == module
    mixture.save(directory, overwrite=True)
    assert names(tmp_path) == [".matmosaic.lock", "mixture"]


def test_mixture_moved_aside_by_a_killed_writer_comes_back(saved):
    mixture, directory = saved
    directory.rename(directory.with_name(f".matmosaic-old-{directory.name}~0123abcd"))
    assert load_estimator(directory).module_names_ == mixture.module_names_
    assert names(directory) == FILES


def test_unfitted_mixture_is_not_saved(make, tmp_path):
    with pytest.raises(ValueError, match="not fitted yet"):
        make().save(tmp_path / "mixture")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(name, saved):
    (saved[1] / name).unlink()
    with pytest.raises(ModuleFormatError, match=name):
        load_estimator(saved[1])


@pytest.mark.parametrize("change", [lambda data: data[:-8], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_altered_weights_are_refused(change, saved):
    path = saved[1] / "weights.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptModuleError, match="weights.safetensors was truncated or altered"):
        load_estimator(saved[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "matmosaic.mixture/99"}, "expected 'matmosaic.mixture/1', got 'matmosaic.mixture/99'"),
        ({"format": None}, r"lacks the fields \['format'\]"),
        ({"n_train": None}, r"lacks the fields \['n_train'\]"),
        ({"n_active": 0}, "expected a number >= 1, got 0"),
        ({"sha256": "0" * 64}, "was truncated or altered"),
        ({"colour": "red"}, "Unknown field 'colour'"),
        ({"active": [0, 7]}, "lacks a field or has one too many"),
        ({"active": [0]}, "does not fit its weights"),
        ({"aggregation": {"name": "sum", "head_widths": [], "width": None}}, "Unknown value 'sum'"),
        ({"aggregation": {"name": "add", "head_widths": [3], "width": None}}, "does not fit its weights"),
        ({"trained": ["0.no_such.weight"]}, "has no parameters .*no_such"),
        ({"answer": "ridge"}, r"scratch\..*estimator.json is missing"),
        ({"answer": "ridge", "answer_modules": ["0" * 64]}, "lacks card.json"),
        ({"scale": {"mean": 0.0, "std": 0.0}}, "expected a number > 0"),
    ],
    ids=str,
)
def test_altered_cards_are_refused(fields, message, saved):
    rewrite(saved[1] / "card.json", **fields)
    with pytest.raises(ModuleFormatError, match=message):
        load_estimator(saved[1])


def test_cards_of_other_experts_are_refused(saved):
    path = saved[1] / "experts.json"
    cards = json.loads(path.read_text(encoding="utf-8"))
    cards[1]["backbone_options"] = {**cards[1]["backbone_options"], "width": 9}
    path.write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(ArchitectureMismatchError, match="does not fit its weights"):
        load_estimator(saved[1])
    del cards[0]["unit"]
    path.write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(ModuleFormatError, match=r"experts.json lacks the fields \['unit'\]"):
        load_estimator(saved[1])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[1]", "{}"])
def test_broken_files_are_refused(name, text, saved):
    (saved[1] / name).write_text(text, encoding="utf-8")
    with pytest.raises(ModuleFormatError):
        load_estimator(saved[1])


def test_other_class_is_refused(saved, module_path):
    with pytest.raises(ModuleFormatError, match="holds a MoERegressor. Expected a TransferRegressor"):
        TransferRegressor.load(saved[1])
    with pytest.raises(ModuleFormatError, match="holds no estimator that save"):
        MoERegressor.load(module_path)


# --- a mixture is no module --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "load", [load_module, resolve, list_modules, PretrainedModule.load], ids=lambda load: load.__name__
)
def test_mixture_is_no_module(load, saved):
    with pytest.raises(ModuleFormatError, match="saved MoERegressor, which is no module: load it with"):
        load(saved[1])


def test_store_says_what_a_mixture_is(saved):
    store = DirectoryStore(saved[1].parent)
    for read in (store.card, store.load):
        with pytest.raises(ModuleFormatError, match="saved MoERegressor, which is no module"):
            read("mixture")


def test_globs_and_stores_skip_mixtures(saved, module, tmp_path):
    module.save(tmp_path / "tiny")
    assert resolve(tmp_path / "*") == [module]
    assert list_modules(tmp_path / "*") == [str(tmp_path / "tiny")]
    assert DirectoryStore(tmp_path).names() == ["tiny"]


def test_glob_of_mixtures_alone_says_what_they_are(saved):
    assert list_modules(saved[1].parent / "*") == []
    with pytest.raises(ModuleFormatError, match="saved MoERegressor, which is no module"):
        resolve(saved[1].parent / "*")
    with pytest.raises(UnknownNameError, match="No module matches"):
        resolve(saved[1].parent / "none*")
