"""Published ALIGNN checkpoints become modules; other networks, and files that would run code, do not."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from pymatgen.core import Structure
from safetensors.torch import load_file
from torch.optim.lr_scheduler import OneCycleLR

from matmosaic.backbones import structure_features
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.exceptions import (
    ArchitectureMismatchError,
    CorruptModuleError,
    DataFileError,
    ModuleFormatError,
    UnsafeFileError,
)
from matmosaic.graphs import GraphSettings
from matmosaic.modules import DirectoryStore, load_module
from matmosaic.modules.importers import import_alignn, load

WIDTH, HIDDEN, ALIGNN_LAYERS, GCN_LAYERS = 6, 5, 2, 1
PARTS = ("src_gate", "dst_gate", "edge_gate", "src_update", "dst_update")
NORMS = ("bn_edges", "bn_nodes")


def linear(name, n_in, n_out):
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name, width):
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{one}": (width,) for one in names}, f"{name}.num_batches_tracked": None}


def dense(name, n_in, n_out):
    return linear(f"{name}.layer.0", n_in, n_out) | norm(f"{name}.layer.1", n_out)


def convolution(name):
    shapes = {}
    for part in PARTS:
        shapes |= linear(f"{name}.{part}", WIDTH, WIDTH)
    for part in NORMS:
        shapes |= norm(f"{name}.{part}", WIDTH)
    return shapes


def published_state(n_out=1):
    """Return a random state dict with the names and shapes of the published code."""
    shapes = dense("atom_embedding", 92, WIDTH)
    for kind, bins in (("edge", 80), ("angle", 40)):
        shapes |= dense(f"{kind}_embedding.1", bins, HIDDEN) | dense(f"{kind}_embedding.2", HIDDEN, WIDTH)
    for number in range(ALIGNN_LAYERS):
        for part in ("node_update", "edge_update"):
            shapes |= convolution(f"alignn_layers.{number}.{part}")
    for number in range(GCN_LAYERS):
        shapes |= convolution(f"gcn_layers.{number}")
    shapes |= linear("fc", WIDTH, n_out)
    state = {name: torch.tensor(7) if shape is None else torch.rand(shape) for name, shape in shapes.items()}
    centers = {"edge_embedding": torch.linspace(0, 8, 80), "angle_embedding": torch.linspace(-1, 1, 40)}
    return {**state, **{f"{name}.0.centers": values for name, values in centers.items()}}


@pytest.fixture
def state():
    return published_state()


@pytest.fixture
def config():
    return {
        "target": "formation_energy_peratom",
        "atom_features": "cgcnn",
        "neighbor_strategy": "k-nearest",
        "use_canonize": True,
        "cutoff": 8.0,
        "max_neighbors": 12,
        "n_train": 44578,
        "model": {
            "name": "alignn",
            "alignn_layers": ALIGNN_LAYERS,
            "gcn_layers": GCN_LAYERS,
            "atom_input_features": 92,
            "edge_input_features": 80,
            "triplet_input_features": 40,
            "embedding_features": HIDDEN,
            "hidden_features": WIDTH,
            "output_features": 1,
            "link": "identity",
            "zero_inflated": False,
            "classification": False,
        },
    }


def as_bytes(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.fixture
def archive(tmp_path):
    """Write an archive of some members, contents as bytes or as what torch.save takes."""

    def archive(members, name="mp_e_form_alignn.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for member, content in members.items():
                if not isinstance(content, bytes):
                    content = json.dumps(content).encode() if member.endswith(".json") else as_bytes(content)
                file.writestr(member, content)
        return tmp_path / name

    return archive


@pytest.fixture
def whole(state, config):
    """Members of a published archive."""
    checkpoint = {"model": state, "optimizer": {"state": {}}, "trainer": {"iteration": 5}}
    return {"model/config.json": config, "model/checkpoint_300.pt": checkpoint}


def test_archive_becomes_a_module(archive, whole):
    module = import_alignn(archive(whole), unit="eV/atom", license_weights="CC-BY-4.0", references=["10.1/x"])
    card = module.card
    assert card.name == "mp_e_form_alignn"
    assert (card.target, card.unit) == ("formation_energy_peratom", "eV/atom")
    assert (card.license_weights, card.n_train) == ("CC-BY-4.0", 44578)
    assert card.backbone_options == {
        "width": WIDTH,
        "embedding_width": HIDDEN,
        "n_alignn": ALIGNN_LAYERS,
        "n_gcn": GCN_LAYERS,
        "n_radial": 80,
        "n_angular": 40,
    }
    assert card.head == {"n_in": WIDTH, "widths": [], "n_out": 1}
    assert (card.graph["ties"], card.graph["angles"], card.graph["max_neighbors"]) == ("reference", True, 12)
    assert card.graph["tolerance"] == GraphSettings().tolerance  # exact lengths would cost compression
    assert card.target_transform == {"name": "identity", "mean": 0.0, "std": 1.0, "right_skewed": False}
    assert card.references == [
        "10.1038/s41524-021-00650-1",
        "10.1/x",
        "imported from mp_e_form_alignn.zip, model/checkpoint_300.pt",
    ]
    assert len(card.golden) == 3


def test_every_parameter_finds_its_place(archive, whole, state):
    weights = import_alignn(archive(whole)).weights
    added = {name for name in weights if name.startswith("head.scale.")}
    assert len(weights) - len(added) == len(state) - 2  # centres of Gaussians are no parameters
    layers = "backbone.stages"
    for published, ours in {
        "atom_embedding.layer.0.weight": f"{layers}.embedding.atoms.linear.weight",
        "edge_embedding.1.layer.1.running_var": f"{layers}.embedding.bonds.hidden.norm.running_var",
        "angle_embedding.2.layer.0.bias": f"{layers}.embedding.angles.output.linear.bias",
        "alignn_layers.1.node_update.src_gate.weight": f"{layers}.alignn_2.node_update.source_gate.weight",
        "alignn_layers.0.edge_update.dst_gate.weight": f"{layers}.alignn_1.edge_update.target_gate.weight",
        "alignn_layers.0.edge_update.edge_gate.bias": f"{layers}.alignn_1.edge_update.link_gate.bias",
        "gcn_layers.0.src_update.weight": f"{layers}.gcn_1.node_update.own.weight",
        "gcn_layers.0.dst_update.weight": f"{layers}.gcn_1.node_update.message.weight",
        "gcn_layers.0.bn_edges.bias": f"{layers}.gcn_1.node_update.link_norm.bias",
        "gcn_layers.0.bn_nodes.running_mean": f"{layers}.gcn_1.node_update.node_norm.running_mean",
        "fc.weight": "head.layers.0.weight",
    }.items():
        assert torch.equal(weights[ours], state[published]), published


def test_predictions_are_those_of_the_last_layer(archive, whole, state, crystals):
    module = import_alignn(archive(whole))
    features = structure_features(module.build_backbone(), crystals)
    expected = features @ state["fc.weight"][0] + state["fc.bias"]
    np.testing.assert_allclose(module.predict(crystals), expected, rtol=1e-5)


def test_imported_archive_is_a_module_of_its_own_name(archive, whole, tmp_path):
    module = load("alignn", archive(whole))
    DirectoryStore(tmp_path / "store").save(module)
    assert load_module(tmp_path / "store" / "mp_e_form_alignn") == module


@pytest.mark.parametrize("wrapped", [True, False], ids=["model", "bare"])
@pytest.mark.parametrize("described", [True, False], ids=["config", "no config"])
def test_checkpoint_without_an_archive(tmp_path, state, config, wrapped, described):
    path = tmp_path / "checkpoint_300.pt"
    path.write_bytes(as_bytes({"model": state} if wrapped else state))
    if described:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = import_alignn(path).card
    assert card.name == "checkpoint_300"
    assert card.target == ("formation_energy_peratom" if described else "checkpoint_300")
    assert card.n_train == (44578 if described else None)


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [
        (["a/checkpoint_10.pt", "b/checkpoint_10.pt"], "b/checkpoint_10.pt"),  # beside the config
        (["b/checkpoint_300.pt", "b/checkpoint_50.pt"], "b/checkpoint_300.pt"),
        (["b/checkpoint_1000.pt", "b/checkpoint_300.pt"], "b/checkpoint_1000.pt"),
        (["b/best_model.pt", "b/checkpoint_300.pt"], "b/best_model.pt"),
        (["./b/checkpoint_300.pt"], "./b/checkpoint_300.pt"),
    ],
    ids=str,
)
def test_which_checkpoint_of_an_archive_counts(archive, state, config, checkpoints, expected):
    members = {"b/config.json": config, "b/log.txt": b""}
    for name in checkpoints:
        members[name] = {"model": {**state, "fc.bias": torch.tensor([float(name == expected)])}}
    module = import_alignn(archive(members))
    assert module.card.references[-1].endswith(f", {expected}")
    assert module.weights["head.layers.0.bias"].tolist() == [1.0]


def test_config_beside_the_checkpoint_counts(archive, state, config):
    members = {
        "b/config.json": {**config, "n_train": 7},
        "b/checkpoint_300.pt": state,
        "c/config.json": config,
        "c/checkpoint_5.pt": state,
    }
    assert import_alignn(archive(members)).card.n_train == 7


def test_notes_of_macos_are_passed_over(archive, whole):
    """They are listed last, and have the names of files that they are not."""
    notes = ["__MACOSX/model/._checkpoint_300.pt", "__MACOSX/model/._config.json", "model/.checkpoint_400.pt"]
    module = import_alignn(archive({**whole, **dict.fromkeys(notes, b"\x00\x05\x16\x07")}))
    assert module.card.n_train == 44578
    with pytest.raises(ArchitectureMismatchError, match=r"holds no checkpoint.*got \['config.json'\]"):
        import_alignn(archive({"config.json": {}, notes[0]: b"\x00\x05\x16\x07"}))


def test_parallel_training_left_a_prefix(archive, whole, state):
    whole["model/checkpoint_300.pt"]["model"] = {f"module.{name}": value for name, value in state.items()}
    assert import_alignn(archive(whole)).card.backbone_options["width"] == WIDTH


def test_labels_that_were_multiplied_or_exponents(archive, whole, state, config, crystals):
    state["fc.weight"] /= abs(import_alignn(archive(whole)).predict(crystals)).max()  # exp stays finite
    plain = import_alignn(archive(whole)).predict(crystals)
    config["target_multiplication_factor"] = 4.0
    np.testing.assert_allclose(import_alignn(archive(whole)).predict(crystals), plain / 4, rtol=1e-6)
    config["model"]["link"] = "log"
    np.testing.assert_allclose(import_alignn(archive(whole)).predict(crystals), np.exp(plain) / 4, rtol=1e-5)


@pytest.mark.parametrize("factor", [None, 1, 2.5])
def test_factor_of_labels(archive, whole, config, factor):
    config["target_multiplication_factor"] = factor
    assert import_alignn(archive(whole)).card.target_transform["std"] == 1 / (factor or 1)


@pytest.mark.parametrize("link", ["identity", "log"])
@pytest.mark.parametrize("factor", ["x", "2", -2.0, 0, float("nan"), float("inf"), True, [1]], ids=repr)
def test_factor_that_labels_cannot_have_been_multiplied_by(archive, whole, config, factor, link):
    config["target_multiplication_factor"] = factor
    config["model"]["link"] = link
    with pytest.raises(ModuleFormatError, match="config.json .*'target_multiplication_factor'.*write null"):
        import_alignn(archive(whole))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(archive, whole, state, value):
    state["gcn_layers.0.src_gate.weight"][0, 0] = value
    with pytest.raises(CorruptModuleError, match=r"not finite numbers: \['gcn_layers.0.src_gate.weight'"):
        import_alignn(archive(whole))


def test_graph_settings_are_those_of_the_config(archive, whole, config):
    config["max_neighbors"] = 8
    assert import_alignn(archive(whole)).card.graph["max_neighbors"] == 8


def test_random_numbers_are_not_drawn(archive, whole):
    path, before = archive(whole), torch.get_rng_state()
    import_alignn(path)
    assert torch.equal(torch.get_rng_state(), before)


# --- what older code saved --------------------------------------------------------------------------------


@pytest.fixture
def schedule():
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.sum().backward()
    return OneCycleLR(torch.optim.AdamW([parameter]), max_lr=0.1, total_steps=10)


def test_methods_of_a_schedule_are_passed_over(archive, whole, schedule):
    """Schedules were saved with a function, or a bound method and so with themselves and their optimizer."""
    saved = {"anneal_func": OneCycleLR._annealing_cos, "bound": schedule.get_lr}
    whole["model/checkpoint_300.pt"]["lr_scheduler"] = saved
    assert import_alignn(archive(whole)).card.backbone == "alignn"


def test_what_cannot_be_passed_over_is_refused(archive, whole, schedule):
    schedule.optimizer.step()  # now it has numbers of its own, by parameter
    whole["model/checkpoint_300.pt"]["lr_scheduler"] = {"bound": schedule.get_lr}
    with pytest.raises(UnsafeFileError, match="more than tensors, numbers and text .*save its weights alone"):
        import_alignn(archive(whole))


# --- refusals ---------------------------------------------------------------------------------------------


class RunsCode:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


class RunsMethod(RunsCode):
    """A method is pickled as an object and the call of getattr that finds it."""

    def __reduce__(self):
        return self.trace.mkdir, ()


class RunsFoundCode(RunsCode):
    """Calls what getattr finds in a class that is passed over."""

    def __reduce__(self):
        return OneCycleLR._annealing_cos, (0.0, 1.0, 0.5)


@pytest.mark.parametrize("kind", [RunsCode, RunsMethod, RunsFoundCode])
def test_checkpoint_that_would_run_code_is_not_loaded(archive, whole, tmp_path, kind):
    trace = tmp_path / "trace"
    whole["model/checkpoint_300.pt"]["trainer"] = kind(trace)
    with pytest.raises((UnsafeFileError, CorruptModuleError)):
        import_alignn(archive(whole))
    assert not trace.exists()


def test_what_would_have_run_is_named(archive, whole, tmp_path):
    whole["model/checkpoint_300.pt"]["trainer"] = RunsCode(tmp_path / "trace")
    with pytest.raises(
        UnsafeFileError, match=r"checkpoint_300.pt\) was not loaded: it would call '(posix|nt)"
    ):
        import_alignn(archive(whole))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"name": "alignn_atomwise"}, r"name is 'alignn_atomwise', expected 'alignn'"),
        ("model", {"output_features": 66}, r"output_features is 66, expected 1"),
        ("model", {"classification": True}, r"classification is True, expected none"),
        ("model", {"extra_features": 3}, r"extra_features is 3, expected none"),
        ("model", {"link": "logit"}, r"link is 'logit', expected one of \['identity', 'log'\]"),
        ("model", {"link": ["log"]}, r"link is \['log'\], expected one of"),
        (None, {"neighbor_strategy": "voronoi"}, r"neighbor_strategy is 'voronoi', expected 'k-nearest'"),
        (None, {"atom_features": "cfid"}, r"atom_features is 'cfid', expected 'cgcnn'"),
        (None, {"use_canonize": False}, r"use_canonize is False, expected True"),
        (None, {"standard_scalar_and_pca": True}, r"standard_scalar_and_pca is True, expected none"),
    ],
    ids=str,
)
def test_what_the_config_says_cannot_be_imported(archive, whole, config, section, change, message):
    (config["model"] if section else config).update(change)
    with pytest.raises(ArchitectureMismatchError, match=message):
        import_alignn(archive(whole))


def test_config_of_other_weights_is_shown(archive, whole, config):
    config["model"] |= {"alignn_layers": 4, "hidden_features": 256}
    with pytest.raises(ArchitectureMismatchError) as caught:
        import_alignn(archive(whole))
    assert "! hidden_features is 256 in config.json, 6 in the weights" in str(caught.value)
    assert "! alignn_layers is 4 in config.json, 2 in the weights" in str(caught.value)
    assert "Use the config.json that was saved with the checkpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc1.weight": torch.zeros(2, 2)}, r"\+ fc1.weight 2 x 2 is unexpected"),
        (
            {"gcn_layers.0.bn_nodes.running_mean": None},
            r"gcn_1.node_update.node_norm.running_mean 6 is missing",
        ),
        (
            {"atom_embedding.layer.0.weight": torch.zeros(6, 11)},
            r"atoms.linear.weight is 6 x 11, expected 6 x 92",
        ),
        ({"fc.weight": torch.zeros(2, 6)}, r"head.layers.0.weight is 2 x 6, expected 1 x 6"),
        (
            {"edge_embedding.0.centers": torch.linspace(0, 6, 80)},
            r"holds 80 from 0 to 6, expected 80 from 0 to 8",
        ),
        ({"angle_embedding.0.centers": torch.linspace(-1, 1, 41)}, r"holds 41 from -1 to 1, expected 40"),
    ],
    ids=["other head", "layer norms", "other descriptors", "two outputs", "other lengths", "other cosines"],
)
def test_another_architecture_is_shown(archive, whole, state, change, message):
    for name, value in change.items():
        state.pop(name, None)
        if value is not None:
            state[name] = value
    with pytest.raises(ArchitectureMismatchError, match=f"(?s){message}.*relatives such as ALIGNNAtomWise"):
        import_alignn(archive(whole))


def test_network_without_anything_known_is_shown(archive):
    with pytest.raises(ArchitectureMismatchError, match=r"embedding.atoms.linear.weight 256 x 92 is missing"):
        import_alignn(archive({"checkpoint_1.pt": {"model": {"layer.weight": torch.zeros(3, 3)}}}))


def test_foreign_and_damaged_files_are_refused(archive, whole, tmp_path, config):
    with pytest.raises(ArchitectureMismatchError, match=r"holds no checkpoint.*got \['config.json'\]"):
        import_alignn(archive({"config.json": config}))
    with pytest.raises(ArchitectureMismatchError, match=r"no ALIGNN checkpoint.*entries \['epoch', 'net'\]"):
        import_alignn(archive({"checkpoint_1.pt": {"net": 1, "epoch": 2}}))
    with pytest.raises(CorruptModuleError, match="config.json of .* is no JSON"):
        import_alignn(archive({**whole, "model/config.json": b"{"}))
    with pytest.raises(CorruptModuleError, match="must be a mapping"):
        import_alignn(archive({**whole, "model/config.json": []}))
    with pytest.raises(CorruptModuleError, match="truncated or no PyTorch checkpoint"):
        import_alignn(archive({**whole, "model/checkpoint_300.pt": b"not a checkpoint"}))
    path = archive(whole)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptModuleError, match="truncated"):
        import_alignn(path)
    with pytest.raises(DataFileError, match="cannot be read"):
        import_alignn(tmp_path / "nothing.zip")


def test_damaged_member_is_refused(archive, whole):
    path = archive(whole)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(CorruptModuleError, match="damaged archive"):
        import_alignn(path)


def test_published_state_is_that_of_the_backbone(state):
    """The names and shapes that these tests make up are those of a network."""
    backbone = ALIGNN(width=WIDTH, embedding_width=HIDDEN, n_alignn=ALIGNN_LAYERS, n_gcn=GCN_LAYERS)
    n_parameters = sum(parameter.numel() for parameter in backbone.parameters())
    buffers = ("running_mean", "running_var", "num_batches_tracked", "centers")
    sizes = [value.numel() for name, value in state.items() if not name.endswith(buffers)]
    assert n_parameters + WIDTH + 1 == sum(sizes)


@pytest.mark.parametrize("name", ["small", "hot"])
def test_predictions_of_the_published_code(shared_data, archive, name):
    """From structures to numbers: its graphs, its weights, through an archive of its layout."""
    folder = shared_data / "reference" / "alignn"
    facts = json.loads((folder / "structures.json").read_text(encoding="utf-8"))["structures"]
    structures = [Structure(one["lattice"], one["elements"], one["frac"]) for one in facts]
    described = json.loads((folder / f"{name}_state_dict.json").read_text(encoding="utf-8"))["config"]
    weights = load_file(folder / f"{name}_state_dict.safetensors")
    members = {"config.json": {"model": described}, "checkpoint_300.pt": {"model": weights}}
    with np.load(folder / f"{name}_outputs.npz") as expected:
        found = import_alignn(archive(members)).predict(structures)
        np.testing.assert_allclose(found, expected["pred_f64"], rtol=0, atol=1e-5)
