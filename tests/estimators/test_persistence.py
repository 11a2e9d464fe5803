"""Saving without pickle, loading, and exporting what was learnt as a module."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from matmosaic import GraphSettings, GraphTable, PretrainedModule, TransferRegressor, load_module
from matmosaic.estimators import load_estimator
from matmosaic.estimators.persistence import SavableRegressor
from matmosaic.exceptions import CorruptModuleError, ModuleFormatError, StoreError, UnknownNameError
from matmosaic.modules import TrainingFingerprints

FILES = ["card.json", "estimator.json", "weights.safetensors"]


@pytest.fixture
def saved(make, labelled, module_path, tmp_path):
    """A fitted estimator of which a directory holds a copy, and that directory."""
    estimator = make(module=module_path, max_epochs=4).fit(*labelled)
    estimator.save(tmp_path / "model")
    return estimator, tmp_path / "model"


def rewrite(directory, **fields):
    path = directory / "estimator.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        document.pop(name) if value is None else document.update({name: value})
    path.write_text(json.dumps(document), encoding="utf-8")


# --- save and load -----------------------------------------------------------------------------------


def test_loaded_estimator_is_the_saved_one(saved, labelled):
    X, y = labelled
    estimator, directory = saved
    loaded = TransferRegressor.load(directory)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    pd.testing.assert_frame_equal(loaded.history_, estimator.history_)
    for name in ("module_card_", "unfrozen_", "best_epoch_", "scale_", "n_train_"):
        assert getattr(loaded, name) == getattr(estimator, name)
    assert loaded.score(X, y) == estimator.score(X, y)


def test_loaded_estimator_fits_as_the_saved_one(saved, labelled):
    X, y = labelled
    estimator, directory = saved
    again = TransferRegressor.load(directory).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))


def test_loaded_estimator_saves_and_pickles(saved, labelled, tmp_path):
    X, _ = labelled
    estimator, directory = saved
    loaded = pickle.loads(pickle.dumps(TransferRegressor.load(directory)))
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(load_estimator(tmp_path / "again").predict(X), estimator.predict(X))


def test_another_process_needs_neither_structures_nor_the_module(saved, labelled, tmp_path):
    X, _ = labelled
    estimator, directory = saved
    GraphTable.from_structures(X).save(tmp_path / "table")
    code = f"""
import numpy as np
from matmosaic import GraphTable, TransferRegressor
table = GraphTable.load({str(tmp_path / "table")!r})
np.save({str(tmp_path / "predicted.npy")!r}, TransferRegressor.load({str(directory)!r}).predict(table))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "predicted.npy"), estimator.predict(X))


@pytest.mark.parametrize(
    "parameters",
    [
        {"unfrozen": ("conv_1", "last"), "head_widths": ()},
        {"unfrozen": ["embedding"], "head_widths": [4]},
        {"max_epochs": np.int64(2), "learning_rate": np.float32(0.25), "weighted_sampling": np.bool_(True)},
        {"patience": 2, "backbone_learning_rate": 0.001, "validation_fraction": 0, "batch_size": 9},
        {
            "module": None,
            "backbone_options": {"width": 4, "n_convolutions": 1},
            "graph_settings": GraphSettings(cutoff=6.0, ties="reference"),
        },
    ],
    ids=lambda parameters: "-".join(parameters),
)
def test_parameters_are_restored(parameters, make, labelled, tmp_path):
    X, y = labelled
    estimator = make(**parameters).fit(X, y)
    estimator.save(tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert loaded.get_params() == estimator.get_params()
    assert type(loaded.unfrozen) is type(estimator.unfrozen)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_widths_in_an_array_come_back_as_a_list(make, labelled, tmp_path):
    make(head_widths=np.array([4, 3])).fit(*labelled).save(tmp_path / "model")
    assert load_estimator(tmp_path / "model").head_widths == [4, 3]


def test_module_object_is_restored(make, module, labelled, tmp_path):
    make().fit(*labelled).save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(
        [
            *FILES,
            *(f"start.{module.card.sha256[:16]}.{name}" for name in ("card.json", "weights.safetensors")),
        ]
    )
    assert load_estimator(tmp_path / "model").module == module


def test_paths_and_folders_are_restored_as_text(saved, make, module_path, labelled, tmp_path):
    _, directory = saved
    assert sorted(path.name for path in directory.iterdir()) == FILES
    assert load_estimator(directory).module == str(module_path)
    make(memory=joblib.Memory(tmp_path / "graphs", verbose=0)).fit(*labelled).save(tmp_path / "other")
    assert load_estimator(tmp_path / "other").memory == str(tmp_path / "graphs")


def test_callbacks_and_random_states_are_not_saved(make, labelled, tmp_path):
    from skorch.callbacks import EpochTimer

    estimator = make(callbacks=[("more", EpochTimer())], random_state=np.random.RandomState(0)).fit(*labelled)
    estimator.save(tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert (loaded.callbacks, loaded.random_state) == (None, None)


def test_untrained_estimator_is_saved_too(make, labelled, tmp_path):
    X, y = labelled
    estimator = make(max_epochs=0, validation_fraction=0).fit(X, y)
    estimator.save(tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert loaded.history_.empty
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_loading_touches_no_global_numbers(saved):
    before = torch.random.get_rng_state()
    load_estimator(saved[1])
    assert torch.equal(torch.random.get_rng_state(), before)


# --- what is refused ---------------------------------------------------------------------------------


def test_directory_is_replaced_only_on_request(saved, make, labelled):
    _, directory = saved
    other = make(max_epochs=1).fit(*labelled)
    with pytest.raises(StoreError, match="already holds a module"):
        other.save(directory)
    other.save(directory, overwrite=True)
    assert load_estimator(directory).max_epochs == 1
    saved[0].save(directory, overwrite=True)
    assert sorted(path.name for path in directory.iterdir()) == FILES  # no ``start.`` of the other


def test_directory_of_the_user_is_never_replaced(saved, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years", encoding="utf-8")
    with pytest.raises(StoreError, match="chapter.tex"):
        saved[0].save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_failed_save_leaves_nothing(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "matmosaic.modules._files._write", lambda path, content: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(StoreError, match="full"):
        saved[0].save(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".matmosaic-new")] == []


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="There is no estimator at .*nowhere"):
        load_estimator(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(name, saved):
    (saved[1] / name).unlink()
    with pytest.raises(ModuleFormatError, match=name):
        load_estimator(saved[1])


def test_module_is_no_estimator(module_path):
    with pytest.raises(ModuleFormatError, match="holds no estimator that save"):
        TransferRegressor.load(module_path)


def test_altered_weights_are_refused(saved):
    path = saved[1] / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptModuleError, match="truncated or altered"):
        load_estimator(saved[1])


def test_altered_start_is_refused(make, labelled, tmp_path):
    make().fit(*labelled).save(tmp_path / "model")
    (path,) = (tmp_path / "model").glob("start.*.weights.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CorruptModuleError):
        load_estimator(tmp_path / "model")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "matmosaic.estimator/99"}, "is not of format 'matmosaic.estimator/1'"),
        ({"format": None}, "is not of format"),
        (
            {"class": "TransferRegresor"},
            "Unknown estimator class 'TransferRegresor'. Did you mean 'TransferRegressor'",
        ),
        ({"class": "os.system"}, "Unknown estimator class 'os.system'"),
        ({"class": None}, "Unknown estimator class"),
        ({"parameters": {"modul": "x"}}, "lacks a field or has one too many"),
        ({"parameters": {"module": {"pickle": "x"}}}, "lacks a field or has one too many"),
        ({"parameters": None}, "lacks a field or has one too many"),
        ({"unfrozen": None}, "lacks a field or has one too many"),
    ],
)
def test_altered_descriptions_are_refused(fields, message, saved):
    rewrite(saved[1], **fields)
    with pytest.raises(ModuleFormatError, match=message):
        load_estimator(saved[1])


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_broken_descriptions_are_refused(text, saved):
    (saved[1] / "estimator.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModuleFormatError):
        load_estimator(saved[1])


def test_name_found_in_a_file_is_not_imported(saved, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    rewrite(saved[1], **{"class": "trap.Estimator"})
    with pytest.raises(ModuleFormatError, match="Unknown estimator class"):
        load_estimator(saved[1])


def test_other_class_is_refused(saved):
    class OtherRegressor(SavableRegressor):
        pass

    with pytest.raises(ModuleFormatError, match="holds a TransferRegressor. Expected a OtherRegressor"):
        OtherRegressor.load(saved[1])
    assert isinstance(load_estimator(saved[1]), TransferRegressor)


# --- as a module -------------------------------------------------------------------------------------


def test_card_says_what_was_learnt(make, module, labelled):
    X, y = labelled
    estimator = make(max_epochs=5).fit(X, y)
    card = estimator.to_module(
        name="volumes",
        target="volume",
        unit="angstrom^3/atom",
        version="2",
        dataset={"name": "strained", "doi": None},
        license_weights="CC-BY-4.0",
        references=["a paper"],
    ).card
    assert (card.name, card.version, card.target, card.unit) == ("volumes", "2", "volume", "angstrom^3/atom")
    assert card.base == module.card.sha256 != card.sha256
    assert (card.backbone, card.backbone_options["width"]) == ("cgcnn", 8)
    assert (card.n_train, card.license_weights, card.references) == (34, "CC-BY-4.0", ["a paper"])
    assert (card.target_transform["mean"], card.target_transform["std"]) == (
        estimator.scale_.mean,
        estimator.scale_.std,
    )
    assert len(card.golden) == 3
    (metric,) = card.metrics
    assert metric == {
        "name": "MAE",
        "value": estimator.history_["valid_mae"].min(),
        "unit": "angstrom^3/atom",
        "split": "validation",
    }


def fingerprints_of(estimator):
    return estimator.to_module(name="one", target="y", unit="1").card.fingerprints


def test_fingerprints_disclose_no_structure(make, labelled):
    X, y = labelled
    field = fingerprints_of(make(module=None).fit(X, y))
    assert field == TrainingFingerprints.of(X).to_field()
    assert fingerprints_of(make(module=None).fit(X[::-1], y)) == field  # neither order nor number
    assert set(field) == {"scheme", "complete", "structures", "compositions"}


def test_fingerprints_hold_all_rows_that_were_used(make, labelled):
    X, y = labelled
    weight = np.where(np.arange(len(y)) < 30, 1.0, 0.0)
    fitted = make(module=None).fit(X[:-4], y[:-4], weight[:-4], X_val=X[-4:], y_val=y[-4:])
    used = [*X[:30], *X[-4:]]
    assert fingerprints_of(fitted) == TrainingFingerprints.of(used).to_field()


def test_fingerprints_hold_what_the_module_was_trained_on(make, module, labelled):
    more = [one.copy() for one in labelled[0][:12]]
    for one in more:
        one.apply_strain(0.03)
    field = fingerprints_of(make().fit(more, labelled[1][:12]))
    assert field == TrainingFingerprints.of([*labelled[0], *more]).to_field()
    without = PretrainedModule(replace(module.card, fingerprints=[]), module.weights)
    field = fingerprints_of(make(module=without).fit(more, labelled[1][:12]))
    assert field == TrainingFingerprints.of(more, complete=False).to_field()


def test_table_has_no_fingerprints(make, module, labelled):
    X, y = labelled
    table = GraphTable.from_structures(X)
    assert fingerprints_of(make(module=None).fit(table, y)) == []
    field = fingerprints_of(make().fit(table, y))
    assert field == {**module.card.fingerprints, "complete": False}


def test_module_from_scratch_has_no_base(labelled):
    X, y = labelled
    estimator = TransferRegressor(
        backbone_options={"width": 4, "n_convolutions": 1}, max_epochs=1, validation_fraction=0
    )
    card = estimator.fit(X, y).to_module(name="one", target="y", unit="1").card
    assert (card.base, card.metrics, card.n_train) == (None, [], len(X))


def test_module_predicts_as_its_estimator(make, labelled):
    X, y = labelled
    estimator = make(unfrozen="all").fit(X, y)
    exported = estimator.to_module(name="one", target="y", unit="1")
    np.testing.assert_allclose(exported.predict(X), estimator.predict(X), rtol=1e-6)
    assert exported.verify() < 1e-5


def test_exported_module_does_not_follow_the_estimator(make, labelled):
    X, y = labelled
    estimator = make(unfrozen="all").fit(X, y)
    exported = estimator.to_module(name="one", target="y", unit="1")
    before = exported.predict(X)
    estimator.net_.module_.load_state_dict({k: 0 * v for k, v in estimator.net_.module_.state_dict().items()})
    np.testing.assert_array_equal(exported.predict(X), before)


def test_exported_module_is_fine_tuned_again(make, labelled, tmp_path):
    X, y = labelled
    exported = make(unfrozen="all").fit(X, y).to_module(name="first", target="y", unit="1")
    exported.save(tmp_path / "first")
    second = make(module=tmp_path / "first").fit(X, -y)
    assert second.to_module(name="second", target="y", unit="1").card.base == exported.card.sha256
    assert load_module(tmp_path / "first") == exported


def test_saved_estimator_is_a_module(saved, make, labelled):
    X, y = labelled
    estimator, directory = saved
    as_module = PretrainedModule.load(directory)
    np.testing.assert_allclose(as_module.predict(X), estimator.predict(X), rtol=1e-6)
    make(module=str(directory)).fit(X, y)
    assert isinstance(directory, Path)


def test_device_may_be_another_than_the_saved_one(saved, labelled):
    estimator, directory = saved
    parameters = json.loads((directory / "estimator.json").read_text(encoding="utf-8"))["parameters"]
    rewrite(directory, parameters={**parameters, "device": "cuda:99"})
    with pytest.raises(ValueError, match="'device' must be"):
        TransferRegressor.load(directory)
    moved = TransferRegressor.load(directory, device="cpu")
    assert moved.device == "cpu"
    np.testing.assert_array_equal(moved.predict(labelled[0]), estimator.predict(labelled[0]))
