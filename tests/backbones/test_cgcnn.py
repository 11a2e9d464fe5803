"""CGCNN against a plain reimplementation, and what it must not depend on."""

import importlib.util
import json
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch import nn
from torch.nn.functional import mse_loss, sigmoid, softplus

from matmosaic.backbones import cgcnn, structure_features
from matmosaic.backbones.cgcnn import CGCNN, element_table
from matmosaic.exceptions import UnsupportedElementError
from matmosaic.graphs import GraphSettings, GraphTable

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_element_table.py"


class PlainConvolution(nn.Module):
    """As the paper writes it, bond by bond, with PyTorch's own batch normalisation."""

    def __init__(self, width, n_bond_features):
        super().__init__()
        self.gate = nn.Linear(2 * width + n_bond_features, 2 * width)
        self.bond_norm = nn.BatchNorm1d(2 * width)
        self.atom_norm = nn.BatchNorm1d(width)

    def forward(self, x, u, neighbor, center, share):
        joined = torch.cat([x[center], x[neighbor], u], dim=1)
        choice, value = self.bond_norm(self.gate(joined)).chunk(2, dim=1)
        message = sigmoid(choice) * softplus(value) * share[:, None]
        total = torch.stack([message[center == atom].sum(0) for atom in range(len(x))])
        return softplus(x + self.atom_norm(total))


class PlainCGCNN(nn.Module):
    """Uncompressed, per bond, from numbers in the order of an ordinary CGCNN."""

    def __init__(self, width, n_convolutions):
        super().__init__()
        self.embedding = nn.Linear(92, width)
        self.convolutions = nn.ModuleList(PlainConvolution(width, 41) for _ in range(n_convolutions))

    def forward(self, batch):
        descriptors = torch.zeros(len(batch.z), 92)
        for row, number in enumerate(batch.z.tolist()):
            descriptors[row, element_table()["elements"][str(number)]] = 1.0
        x = self.embedding(descriptors)
        u = torch.exp(-(((batch.distance[:, None] - torch.arange(41) * 0.2) / 0.2) ** 2))
        for convolution in self.convolutions:
            x = convolution(x, u, *batch.edge_index, batch.bond_weight)
        means = [x[batch.batch == row].mean(0) for row in range(batch.num_graphs)]
        return softplus(torch.stack(means))

    def load(self, backbone):
        """Take over the parameters of ours."""
        state = {
            name.replace("stages.embedding.linear", "embedding"): value
            for name, value in backbone.state_dict().items()
        }
        for number in range(len(self.convolutions)):
            prefix = f"stages.conv_{number + 1}."
            state = {name.replace(prefix, f"convolutions.{number}."): value for name, value in state.items()}
        self.load_state_dict(state, strict=True)
        return self


def make_backbone(**options):
    backbone = CGCNN(width=8, n_convolutions=2, **options)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return backbone


def gradients_of(loss, network):
    """What no path leads to has gradient 0: a bias that batch statistics take away again."""
    parameters = list(network.parameters())
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def tables(structures, settings):
    return [GraphTable.from_structures(structures, settings, compressed=c) for c in (True, False)]


@pytest.fixture
def shaken(NaCl, TiO2, rng):
    """Crystals without symmetry, and so without ties."""
    return [
        Structure(
            s.lattice, s.species, s.cart_coords + rng.normal(0, 0.1, (len(s), 3)), coords_are_cartesian=True
        )
        for s in (NaCl, TiO2)
    ]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_equals_the_plain_network(float64, crystals, shaken, training):
    """Outputs, gradients and running statistics; of compressed graphs too, where no share is fractional."""
    settings = GraphSettings(ties="reference")
    backbone = make_backbone(graph_settings=settings)
    plain = PlainCGCNN(8, 2).load(backbone)
    small, full = (table.select(range(len(table))) for table in tables([*crystals, *shaken], settings))
    upstream = torch.randn(len(crystals) + 2, 8)
    plain.train(training)
    expected = plain(full)
    gradients = gradients_of((expected * upstream).sum(), plain)
    for batch in (full, small):
        ours = make_backbone(graph_settings=settings)
        ours.load_state_dict(backbone.state_dict())
        ours.train(training)
        features = ours(batch).u
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-10)
        found = gradients_of((features * upstream).sum(), ours)
        torch.testing.assert_close(found, gradients, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(
            PlainCGCNN(8, 2).load(ours).state_dict(), plain.state_dict(), rtol=0, atol=1e-10
        )


def test_blocks_of_bonds_change_nothing(float64, every_crystal, monkeypatch):
    """Evaluation without gradients goes block by block; with gradients, and in one block, all at once."""
    backbone = make_backbone()
    table = GraphTable.from_structures(every_crystal, backbone)
    batch = table.select(range(len(table)))
    backbone.train()(batch)  # moves the running statistics away from 0 and 1
    whole = backbone.eval()(batch).u.detach()
    for block in (1, 7, batch.num_edges, batch.num_edges + 1):
        monkeypatch.setattr(cgcnn, "BLOCK", block)
        torch.testing.assert_close(structure_features(backbone, table), whole, rtol=0, atol=1e-12)


def test_bias_of_the_gate_is_trained_in_evaluation_mode_alone(crystals):
    backbone = make_backbone()
    batch = GraphTable.from_structures(crystals, backbone).select(range(len(crystals)))
    bias = backbone.stages.conv_1.gate.bias
    for training in (True, False):
        loss = backbone.train(training)(batch).u.sum()
        (gradient,) = torch.autograd.grad(loss, bias, allow_unused=True)
        assert (gradient is None) == training


def trained(backbone, table, steps=6):
    """Train a copy for some steps on three batches; return losses, state and final features."""
    copy = CGCNN(**backbone.options(), graph_settings=backbone.graph_settings)
    copy.load_state_dict(backbone.state_dict())
    head = nn.Linear(copy.n_features, 1)
    with torch.no_grad():
        head.weight.fill_(0.3)
        head.bias.zero_()
    optimiser = torch.optim.Adam([*copy.parameters(), *head.parameters()], lr=0.01)
    targets = torch.linspace(-1, 1, len(table))[:, None]
    losses = []
    copy.train()
    for step in range(steps):
        rows = torch.arange(step % 3, len(table), 2)
        loss = mse_loss(head(copy(table.select(rows)).u), targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses, copy.state_dict(), structure_features(copy, table)


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_compressed_training_equals_uncompressed(float64, crystals, shaken, ties):
    settings = GraphSettings(ties=ties)
    backbone = make_backbone(graph_settings=settings)
    small, full = tables([*crystals, *shaken], settings)
    assert small.n_bonds < full.n_bonds
    losses, state, features = trained(backbone, small)
    other_losses, other_state, other_features = trained(backbone, full)
    np.testing.assert_allclose(losses, other_losses, rtol=0, atol=1e-8)
    assert losses[-1] < losses[0]
    torch.testing.assert_close(features, other_features, rtol=0, atol=1e-6)
    for name, value in state.items():
        torch.testing.assert_close(value, other_state[name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_compressed_gradients_equal_uncompressed(float64, every_crystal, ties):
    settings = GraphSettings(ties=ties)
    backbone = make_backbone(graph_settings=settings).train()
    upstream = torch.randn(len(every_crystal), 8)
    gradients, statistics = [], []
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    for table in tables(every_crystal, settings):
        backbone.load_state_dict(start)
        features = backbone(table.select(range(len(table)))).u
        gradients.append(gradients_of((features * upstream).sum(), backbone))
        statistics.append([features, *(value.clone() for value in backbone.buffers())])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(*statistics, rtol=0, atol=1e-10)


# --- what features must not depend on ------------------------------------------------------------------


@pytest.fixture
def every_crystal(crystals, shaken):
    return [*crystals, *shaken]


def assert_same_features(backbone, structures, others):
    one, other = structure_features(backbone, structures), structure_features(backbone, others)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def shuffled(structure, rng):
    return Structure.from_sites([structure[int(row)] for row in rng.permutation(len(structure))])


def turned(structure, rng):
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return Structure(Lattice(structure.lattice.matrix @ rotation), structure.species, structure.frac_coords)


def test_order_of_atoms(float64, every_crystal, rng):
    assert_same_features(make_backbone(), every_crystal, [shuffled(s, rng) for s in every_crystal])


def test_supercells(float64, every_crystal):
    for scaling in ([2, 1, 1], [[1, 1, 0], [0, 1, 1], [1, 0, 1]]):
        larger = [s.make_supercell(scaling, in_place=False) for s in every_crystal]
        assert_same_features(make_backbone(), every_crystal, larger)


def test_primitive_cells(float64, NaCl, ZnS):
    primitive = [s.get_primitive_structure() for s in (NaCl, ZnS)]
    assert [len(s) for s in primitive] == [2, 2]
    assert_same_features(make_backbone(), [NaCl, ZnS], primitive)


def test_origin(float64, every_crystal):
    moved = []
    for structure in every_crystal:
        moved.append(structure.copy().translate_sites(range(len(structure)), [0.13, 0.71, 0.4]))
    assert_same_features(make_backbone(), every_crystal, moved)


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_rotation_where_no_tie_is_cut(float64, shaken, rng, ties):
    backbone = make_backbone(graph_settings=GraphSettings(ties=ties))
    assert_same_features(backbone, shaken, [turned(s, rng) for s in shaken])


def test_rotation(float64, every_crystal, rng):
    assert_same_features(make_backbone(), every_crystal, [turned(s, rng) for s in every_crystal])


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_batch_partners(float64, every_crystal, ties):
    backbone = make_backbone(graph_settings=GraphSettings(ties=ties))
    together = structure_features(backbone, every_crystal)
    alone = torch.cat([structure_features(backbone, [one]) for one in every_crystal])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        structure_features(backbone, every_crystal, batch_size=3), together, rtol=0, atol=1e-12
    )


def test_features_do_depend_on_the_crystal(float64, every_crystal):
    features = structure_features(make_backbone(), every_crystal)
    distances = torch.cdist(features, features) + torch.eye(len(features))
    assert distances.min() > 1e-4


# --- elements and options -------------------------------------------------------------------------------


def test_elements_are_matminers():
    folder = files("matminer.utils").joinpath("data_files", "cgcnn_atom_feature.json")
    table = json.loads(folder.read_text(encoding="utf-8"))
    rows = CGCNN().stages.embedding.descriptors
    assert {int(number) for number in table} == CGCNN().elements() == set(range(1, 101))
    for number, values in table.items():
        assert rows[int(number)].tolist() == values


def test_elements_are_those_of_the_published_weights(shared_data):
    published = json.loads(
        (shared_data / "moe" / "extractors" / "atom_init.json").read_text(encoding="utf-8")
    )
    rows = CGCNN().stages.embedding.descriptors
    for number, values in published.items():
        assert rows[int(number)].tolist() == values


def test_sum_of_the_element_table_is_that_of_its_rows():
    table = element_table()
    assert table["sha256"] == sha256(json.dumps(table["elements"]).encode()).hexdigest()
    assert CGCNN.atom_table == {"name": table["name"], "sha256": table["sha256"]}


def test_tool_makes_the_committed_element_table(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_element_table", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    committed = json.loads(tool.OUTPUT.read_text(encoding="utf-8"))
    monkeypatch.setattr(tool, "OUTPUT", tmp_path / "elements.json")
    tool.main()
    made = json.loads((tmp_path / "elements.json").read_text(encoding="utf-8"))
    version = "source"  # names the version of matminer that is installed
    assert {**made, version: None} == {**committed, version: None}


def test_unknown_element_names_rows(NaCl):
    einsteinium = Structure(Lattice.cubic(4.0), ["Es"], [[0, 0, 0]])  # number 99 is the last but one
    mendelevium = Structure(Lattice.cubic(4.0), ["Md"], [[0, 0, 0]])
    structure_features(CGCNN(width=4), [einsteinium])
    with pytest.raises(UnsupportedElementError, match=r"X\[1\], X\[2\] \(2 rows\) .*atomic numbers \[101\]"):
        structure_features(CGCNN(width=4), [NaCl, mendelevium, mendelevium])


def test_options_rebuild_the_network():
    backbone = CGCNN(width=6, n_convolutions=1, step=0.5, graph_settings=GraphSettings(cutoff=6.0))
    options = json.loads(json.dumps(backbone.options()))
    again = CGCNN(**options, graph_settings=backbone.graph_settings)
    again.load_state_dict(backbone.state_dict(), strict=True)
    assert again.stages.embedding.expansion.n_features == 13


def test_layer_groups():
    groups = CGCNN(width=4, n_convolutions=3).layer_groups()
    assert list(groups) == ["embedding", "conv_1", "conv_2", "conv_3", "last"]
    assert groups["last"] == groups["conv_3"] == ["stages.conv_3.*"]


@pytest.mark.parametrize("options", [{"width": 0}, {"n_convolutions": -1}, {"step": 0.0}], ids=str)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="width >= 1, n_convolutions >= 0 and step > 0"):
        CGCNN(**options)
