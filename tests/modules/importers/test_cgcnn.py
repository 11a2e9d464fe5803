"""Published CGCNN checkpoints become modules; files that would run code, or hold another network, do not."""

import argparse
import json
import os
import pickle

import numpy as np
import pytest
import torch

from matmosaic.exceptions import (
    ArchitectureMismatchError,
    CorruptModuleError,
    DataFileError,
    UnknownNameError,
    UnsafeFileError,
)
from matmosaic.modules import DirectoryStore, load_module
from matmosaic.modules.importers import FORMATS, import_cgcnn, load

WIDTH, CONVOLUTIONS, HEAD = 6, 2, (5, 3)


def published_state(*, width=WIDTH, convolutions=CONVOLUTIONS, head=HEAD, n_out=1):
    """Return a random state dict with the names and shapes of the published code."""
    shapes = {"embedding.weight": (width, 92), "embedding.bias": (width,)}
    for number in range(convolutions):
        prefix = f"convs.{number}"
        shapes |= {
            f"{prefix}.fc_full.weight": (2 * width, 2 * width + 41),
            f"{prefix}.fc_full.bias": (2 * width,),
        }
        for norm, size in (("bn1", 2 * width), ("bn2", width)):
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{prefix}.{norm}.{name}": (size,) for name in names}
            shapes[f"{prefix}.{norm}.num_batches_tracked"] = None
    sizes = [width, *head, n_out]
    layers = ["conv_to_fc", *(f"fcs.{i}" for i in range(len(head) - 1)), "fc_out"]
    for layer, n_in, n_out_ in zip(layers, sizes[:-1], sizes[1:], strict=True):
        shapes |= {f"{layer}.weight": (n_out_, n_in), f"{layer}.bias": (n_out_,)}
    return {key: torch.tensor(7) if shape is None else torch.rand(shape) for key, shape in shapes.items()}


@pytest.fixture
def checkpoint():
    """The content of a checkpoint as the mixture-of-experts code writes it."""
    return {
        "epoch": 12,
        "state_dict": published_state(),
        "best_mae_error": torch.tensor(0.25),
        "optimizer": {"state": {}, "param_groups": []},
        "normalizer": {"mean": torch.tensor(-1.5), "std": torch.tensor(2.0), "right_skewed": False},
        "args": {"task": "regression", "n_conv": CONVOLUTIONS},
    }


@pytest.fixture
def write(tmp_path):
    def write(content, name="mp_eform.pth.tar", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return write


def test_checkpoint_becomes_a_module(checkpoint, write):
    module = import_cgcnn(
        write(checkpoint),
        target="formation energy",
        unit="eV/atom",
        license_weights="MIT",
        references=["10.1/x"],
    )
    card = module.card
    assert card.name == "mp_eform"
    assert (card.target, card.unit, card.license_weights) == ("formation energy", "eV/atom", "MIT")
    assert card.backbone_options["width"] == WIDTH
    assert card.backbone_options["n_convolutions"] == CONVOLUTIONS
    assert card.head == {"n_in": WIDTH, "widths": list(HEAD), "n_out": 1}
    assert card.graph["ties"] == "reference"
    assert card.target_transform == {"name": "identity", "mean": -1.5, "std": 2.0, "right_skewed": False}
    assert card.metrics == [{"name": "MAE", "value": 0.25, "unit": "eV/atom", "split": "validation"}]
    assert card.references == [
        "10.1103/PhysRevLett.120.145301",
        "10.1/x",
        "imported from mp_eform.pth.tar, epoch 12",
    ]
    assert len(card.golden) == 3


def test_every_parameter_finds_its_place(checkpoint, write):
    state, weights = checkpoint["state_dict"], import_cgcnn(write(checkpoint)).weights
    scale = {name for name in weights if name.startswith("head.scale.")}
    assert len(weights) - len(scale) == len(state)
    assert {name: weights[name].unique().tolist() for name in scale} == {
        "head.scale.mean": [0.0],
        "head.scale.std": [1.0],
    }
    for published, ours in {
        "embedding.weight": "backbone.stages.embedding.linear.weight",
        "convs.1.fc_full.weight": "backbone.stages.conv_2.gate.weight",
        "convs.0.bn1.running_var": "backbone.stages.conv_1.bond_norm.running_var",
        "convs.1.bn2.bias": "backbone.stages.conv_2.atom_norm.bias",
        "conv_to_fc.weight": "head.layers.0.weight",
        "fcs.0.weight": "head.layers.1.weight",
        "fc_out.bias": "head.layers.2.bias",
    }.items():
        assert torch.equal(weights[ours], state[published]), published


def test_defaults_say_what_the_checkpoint_does_not(checkpoint, write):
    del checkpoint["args"], checkpoint["best_mae_error"], checkpoint["epoch"]
    del checkpoint["normalizer"]["right_skewed"]
    card = import_cgcnn(write(checkpoint), name="own-name").card
    assert (card.name, card.target, card.unit) == ("own-name", "own-name", "unknown")
    assert card.metrics == []
    assert card.target_transform["right_skewed"] is False


def test_numpy_figures_and_namespace_of_the_original_code_are_read(checkpoint, write):
    checkpoint["best_mae_error"] = np.float64(0.5)
    checkpoint["args"] = argparse.Namespace(task="regression", lr=np.float32(0.01), epochs=np.int64(30))
    card = import_cgcnn(write(checkpoint)).card
    assert card.metrics[0]["value"] == 0.5


def test_file_format_of_old_torch_is_read(checkpoint, write):
    assert import_cgcnn(write(checkpoint, _use_new_zipfile_serialization=False)).card.name == "mp_eform"


def test_skewed_labels_are_carried_and_logged(checkpoint, write, caplog):
    checkpoint["normalizer"]["right_skewed"] = True
    assert import_cgcnn(write(checkpoint)).card.target_transform["right_skewed"] is True
    assert "right_skewed" in caplog.text


# --- refusals ------------------------------------------------------------------------------------------


class RunsCode:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_pickle_that_would_run_code_is_not_loaded(tmp_path, write, checkpoint):
    trace = tmp_path / "trace"
    checkpoint["args"] = RunsCode(trace)
    for zipped in (True, False):
        path = write(checkpoint, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UnsafeFileError, match=r"not loaded: it would call '(posix|nt)\.mkdir'"):
            import_cgcnn(path)
    assert not trace.exists()
    (tmp_path / "plain.pth.tar").write_bytes(pickle.dumps(RunsCode(trace), protocol=2))
    with pytest.raises((UnsafeFileError, CorruptModuleError)):
        import_cgcnn(tmp_path / "plain.pth.tar")
    assert not trace.exists()


def test_object_arrays_hide_no_code(tmp_path, write, checkpoint):
    """numpy's scalars are allowed; through them nothing else may be rebuilt."""
    trace = tmp_path / "trace"
    checkpoint["best_mae_error"] = np.array([RunsCode(trace)], dtype=object)
    with pytest.raises(UnsafeFileError):
        import_cgcnn(write(checkpoint))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convs.0.fc_full.weight": torch.zeros(12, 20)}, r"conv_1.gate.weight is 12 x 20, expected 12 x 53"),
        ({"embedding.weight": torch.zeros(6, 80)}, r"embedding.linear.weight is 6 x 80, expected 6 x 92"),
        ({"convs.0.lin_s.weight": torch.zeros(6, 6)}, r"\+ convs.0.lin_s.weight 6 x 6 is unexpected"),
        ({"fc_out.weight": None}, r"\+ head.layers.2.bias 1 is unexpected"),
        ({"convs.0.bn1.weight": None}, r"- backbone.stages.conv_1.bond_norm.weight 12 is missing"),
    ],
    ids=["bond features", "descriptors", "foreign layer", "headless", "no norm"],
)
def test_another_architecture_is_shown(checkpoint, write, change, message):
    for name, value in change.items():
        checkpoint["state_dict"].pop(name, None)
        if value is not None:
            checkpoint["state_dict"][name] = value
    with pytest.raises(ArchitectureMismatchError, match=message):
        import_cgcnn(write(checkpoint))


def test_network_without_anything_known_is_shown(checkpoint, write):
    checkpoint["state_dict"] = {"layer.weight": torch.zeros(3, 3)}
    with pytest.raises(ArchitectureMismatchError, match="embedding.linear.weight .*is missing"):
        import_cgcnn(write(checkpoint))


def test_classifier_is_refused(checkpoint, write):
    checkpoint["args"]["task"] = "classification"
    with pytest.raises(ArchitectureMismatchError, match="'classification'"):
        import_cgcnn(write(checkpoint))
    checkpoint["args"] = {}
    checkpoint["state_dict"] = published_state(n_out=2)
    with pytest.raises(ArchitectureMismatchError, match="expected 1 x 3"):
        import_cgcnn(write(checkpoint))


@pytest.mark.parametrize("missing", ["state_dict", "normalizer"])
def test_other_checkpoints_are_refused(checkpoint, write, missing):
    del checkpoint[missing]
    with pytest.raises(ArchitectureMismatchError, match=f"expected a mapping '{missing}'"):
        import_cgcnn(write(checkpoint))


def test_values_that_are_no_tensors_are_refused(checkpoint, write):
    checkpoint["state_dict"]["embedding.bias"] = "text"
    with pytest.raises(ArchitectureMismatchError, match="embedding.bias"):
        import_cgcnn(write(checkpoint))


def test_damaged_and_foreign_files_are_refused(checkpoint, write, tmp_path):
    path = write(checkpoint)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CorruptModuleError, match="truncated or no PyTorch checkpoint"):
        import_cgcnn(path)
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(CorruptModuleError):
        import_cgcnn(path)
    with pytest.raises(CorruptModuleError, match="holds a Tensor"):
        import_cgcnn(write(torch.zeros(3)))
    with pytest.raises(DataFileError, match="cannot be read"):
        import_cgcnn(tmp_path / "nothing.pth.tar")


def test_impossible_normaliser_is_refused(checkpoint, write):
    del checkpoint["normalizer"]["std"]
    with pytest.raises(CorruptModuleError, match="lacks 'mean' or 'std'"):
        import_cgcnn(write(checkpoint))


# --- by name of the format, and the published files ------------------------------------------------------


def test_formats(checkpoint, write):
    assert FORMATS == ("alignn", "cgcnn")
    assert load("cgcnn", write(checkpoint), unit="eV").card.unit == "eV"
    with pytest.raises(UnknownNameError, match="Did you mean 'cgcnn'"):
        load("cgnn", "x.pth.tar")


def test_imported_file_is_a_module_of_its_own_name(checkpoint, write, tmp_path):
    module = load("cgcnn", write(checkpoint))
    DirectoryStore(tmp_path / "store").save(module)
    assert load_module(tmp_path / "store" / "mp_eform") == module


@pytest.fixture(scope="module")
def reference(shared_data):
    facts = json.loads((shared_data / "reference" / "cgcnn_reference.json").read_text(encoding="utf-8"))
    arrays = np.load(shared_data / "reference" / "cgcnn_reference.npz")
    return facts, dict(zip(arrays["names"], arrays["predictions"], strict=True))


@pytest.fixture(scope="module")
def reference_structures(shared_data, reference):
    """Rows of the reference that are real structures, and these structures."""
    from matminer.utils.io import load_dataframe_from_json

    entries = [
        (row, entry)
        for row, entry in enumerate(reference[0]["structures"])
        if "synthetic" not in entry["task"]
    ]
    tasks = {entry["task"] for _, entry in entries}
    tables = {task: load_dataframe_from_json(str(shared_data / "moe" / f"{task}.json.gz")) for task in tasks}
    return [row for row, _ in entries], [tables[e["task"]]["structure"].iloc[e["row"]] for _, e in entries]


@pytest.fixture(scope="module")
def extractors(shared_data):
    return shared_data / "moe" / "extractors"


def test_published_extractors_are_imported(extractors, reference):
    facts, _ = reference
    paths = sorted(extractors.glob("*.pth.tar"))
    assert {path.name.removesuffix(".pth.tar") for path in paths} == set(facts["extractors"])
    for path in paths:
        card = import_cgcnn(path).card
        expected = facts["extractors"][card.name]
        assert card.target_transform["mean"] == pytest.approx(expected["mean"], rel=1e-7)
        assert card.target_transform["std"] == pytest.approx(expected["std"], rel=1e-7)
        assert card.target_transform["right_skewed"] == expected["right_skewed"]
        assert card.metrics[0]["value"] == pytest.approx(expected["best_mae"], rel=1e-7)
        assert card.references[-1].endswith(f"epoch {expected['epoch']}")
        assert card.backbone_options["n_convolutions"] == 4


def test_predictions_of_published_heads(extractors, reference, reference_structures):
    """In the unit of the source task, against double precision, relative to the spread of the labels."""
    rows, structures = reference_structures
    for name, predictions in reference[1].items():
        module = import_cgcnn(extractors / f"{name}.pth.tar")
        deviation = np.abs(module.predict(structures) - predictions[rows])
        assert deviation.max() <= 1e-4 * module.card.target_transform["std"], name
