"""ALIGNN as a backbone: what it is made of, what is trained, and what its features depend on."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch.nn.functional import mse_loss

from matmosaic import TransferRegressor, plugins
from matmosaic.backbones import MLP, make_table, structure_features, trunk_depth, trunk_table, unfreeze
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.datasets import load_alloys
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.testing import check_backbone

TINY = {"width": 8, "embedding_width": 6, "n_alignn": 2, "n_gcn": 2, "n_radial": 12, "n_angular": 6}
# The normalisation of the last angles and of the last bonds, which nothing reads.
UNUSED = ("*.alignn_2.edge_update.link_norm.*", "*.gcn_2.node_update.link_norm.*")
STRATEGIES = ["head", "last", "gcn_1", "two_body", "three_body", "alignn_2", "embedding", "all"]


@pytest.fixture
def backbone():
    return ALIGNN(**TINY)


def test_it_is_found_by_its_name():
    assert plugins.load("backbones", "alignn") is ALIGNN


def test_it_keeps_the_contract():
    check_backbone(ALIGNN, without_gradient=UNUSED, **TINY)


@pytest.mark.parametrize("options", [{"n_alignn": 1, "n_gcn": 1}, {"n_alignn": 3, "n_gcn": 1}], ids=str)
def test_other_depths_keep_the_contract(options):
    last = f"*.alignn_{options['n_alignn']}.edge_update.link_norm.*"
    unused = [last, f"*.gcn_{options['n_gcn']}.node_update.link_norm.*"]
    check_backbone(ALIGNN, without_gradient=unused, **{**TINY, "width": 4, **options})


def test_sizes():
    def n_parameters(backbone):
        return sum(parameter.numel() for parameter in backbone.parameters())

    with torch.device("meta"):
        assert n_parameters(ALIGNN()) == 4_026_753 - 257  # the published head has 257
    assert n_parameters(ALIGNN.small()) == 140_928
    assert ALIGNN.small(n_gcn=3).options() == {**ALIGNN.small().options(), "n_gcn": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "needs width >= 1. Got 0"),
        ({"n_alignn": 0}, "needs n_alignn >= 1. Got 0"),
        ({"n_gcn": -1}, "needs n_gcn >= 1. Got -1"),
        ({"n_angular": 1}, "needs n_angular >= 2. Got 1"),
        ({"graph_settings": GraphSettings()}, "give it angles=True"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        ALIGNN(**{**TINY, **options})


# --- what is trained ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unfrozen", "parts", "depth"),
    [
        ("head", [], 6),
        ("last", ["gcn_2.node_update"], 4),
        ("gcn_1", ["gcn_1.node_update"], 3),
        ("two_body", [f"{stage}.node_update" for stage in ("alignn_1", "alignn_2", "gcn_1", "gcn_2")], 0),
        ("three_body", ["alignn_1.edge_update", "alignn_2.edge_update"], 0),
        ("alignn_2", ["alignn_2.node_update", "alignn_2.edge_update"], 0),
    ],
    ids=str,
)
def test_groups_and_where_the_trunk_ends(backbone, unfrozen, parts, depth):
    names = unfreeze(backbone, unfrozen)
    assert {".".join(name.split(".")[1:3]) for name in names} == set(parts)
    assert trunk_depth(backbone) == depth


def test_two_and_three_body_are_all_but_the_embedding(backbone):
    both = unfreeze(backbone, ["two_body", "three_body"])
    rest = {name for name, _ in backbone.named_parameters()} - set(both)
    assert {name.split(".")[1] for name in rest} == {"embedding"}


@pytest.mark.parametrize("unfrozen", STRATEGIES)
def test_features_of_angles_are_never_kept(backbone, crystals, unfrozen):
    unfreeze(backbone, unfrozen)
    kept = trunk_table(backbone, make_table(backbone, crystals)).fields
    assert "angle_attr" not in kept
    assert ("edge_attr" in kept) == (unfrozen in ("last", "gcn_1"))


@pytest.mark.parametrize("unfrozen", STRATEGIES)
def test_training_on_the_cached_trunk_equals_training_without(float64, crystals, unfrozen):
    def trained(cached):
        torch.manual_seed(0)
        backbone, head = ALIGNN(**TINY), MLP(TINY["width"])
        unfreeze(backbone, unfrozen)
        table = make_table(backbone, crystals)
        depth = trunk_depth(backbone) if cached else 0
        table = trunk_table(backbone, table) if cached else table
        parameters = [p for p in [*backbone.parameters(), *head.parameters()] if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=1e-2)
        backbone.train()
        for rows in ([0, 3, 5, 6], [7, 1, 2, 4]) * 2:
            optimizer.zero_grad()
            head(backbone(table.select(rows), start=depth).u).square().mean().backward()
            optimizer.step()
        return backbone.state_dict() | head.state_dict()

    cached, whole = trained(True), trained(False)
    for name, value in whole.items():
        torch.testing.assert_close(cached[name], value, rtol=1e-9, atol=1e-9)


def test_what_is_frozen_behind_the_trunk_keeps_its_statistics(backbone, crystals):
    """The embedding is run in each epoch, as there is no cut behind it, but stays as it was."""
    unfreeze(backbone, "three_body")
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()(make_table(backbone, crystals).select(range(len(crystals))))
    moved = {name for name, value in backbone.state_dict().items() if not torch.equal(value, state[name])}
    assert moved
    assert all(".edge_update." in name for name in moved)


# --- what the features depend on ------------------------------------------------------------------------


def step(backbone, table):
    """Gradients and state of a training pass."""
    torch.manual_seed(0)
    backbone.train()
    backbone.zero_grad()
    features = backbone(table.select(range(len(table)))).u
    (features * torch.randn_like(features)).sum().backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    return {"features": features.detach(), **gradients, **backbone.state_dict()}


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_compressed_graphs_give_the_same_numbers(float64, crystals, dtype, largest):
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    backbone = ALIGNN.small()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = []
    for compress in (True, False):
        table = make_table(backbone, crystals, compress=compress)
        backbone.load_state_dict(state)
        features = structure_features(backbone.eval(), table)
        found.append(step(backbone, table) | {"in evaluation": features})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        scale = max(float(value.abs().max()), 1.0)
        assert float((found[0][name] - value).abs().max()) <= largest * scale, name


def test_a_whole_fit_is_the_same_on_compressed_graphs():
    """In single precision, over many steps of Adam, which turns a gradient of rounding errors into steps.

    These alloys share descriptors, whose weights are a bias in front of batch normalisation.
    """
    alloys, y = load_alloys("shear_modulus", return_X_y=True)
    predictions = []
    for compress in (True, False):
        model = TransferRegressor(
            backbone="alignn",
            backbone_options=TINY,
            compress=compress,
            max_epochs=5,
            batch_size=10,
            validation_fraction=0,
            random_state=0,
        )
        predictions.append(model.fit(alloys[::10], y[::10]).predict(alloys))
    np.testing.assert_allclose(predictions[0], predictions[1], atol=2e-5 * y.std())


def test_compression_leaves_fewer_angles(backbone, crystals):
    small, whole = (make_table(backbone, crystals, compress=one).select(range(8)) for one in (True, False))
    assert 5 * len(small.cosine) < len(whole.cosine)


def test_cell_orientation_and_order_do_not_matter(float64, crystals, rng):
    backbone = ALIGNN(**TINY)
    backbone.train()(make_table(backbone, crystals).select(range(len(crystals))))
    expected = structure_features(backbone.eval(), crystals)
    changed = []
    for crystal in crystals:
        other = crystal * ([2, 1, 1] if len(crystal) < 6 else [1, 1, 1])
        order = rng.permutation(len(other))
        other = type(other).from_sites([other[int(row)] for row in order])
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        other.lattice = type(other.lattice)(other.lattice.matrix @ rotation)
        changed.append(other)
    for one in (changed, changed[::-1]):
        found = structure_features(backbone, one)
        torch.testing.assert_close(found, expected if one is changed else expected.flip(0), rtol=0, atol=1e-6)


def test_angles_matter(float64, ZnS, TiO2, MoS2):
    """Crystals in which not every angle has an opposite one; gates that are not all half open."""
    backbone = ALIGNN(**TINY).eval()
    for name, parameter in backbone.named_parameters():
        parameter.data *= 6 if "_gate.weight" in name else 1
    batch = make_table(backbone, [ZnS, TiO2, MoS2]).select(range(3))
    expected = backbone(batch).u
    batch.cosine = -batch.cosine
    assert ((backbone(batch).u - expected).abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("without", ["angles", "angles and bonds"])
def test_structures_without_any_angle(backbone, crystals, training, without):
    batch = make_table(backbone, crystals).select(range(len(crystals)))
    batch.angle_index = batch.angle_index[:, :0]
    batch.cosine = batch.angle_weight = batch.cosine[:0]
    if without == "angles and bonds":
        batch.edge_index = batch.edge_index[:, :0]
        batch.distance = batch.bond_weight = batch.distance[:0]
    features = backbone.train(training)(batch).u
    features.sum().backward()
    assert features.isfinite().all()
    gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    steps = {name: int(value) for name, value in backbone.state_dict().items() if name.endswith("tracked")}
    unmoved = {name for name, value in steps.items() if not value}
    if training:
        assert any(".angles." in name for name in unmoved)
        assert any(".bonds." in name for name in unmoved) == (without == "angles and bonds")
    assert all(value.isfinite().all() for value in backbone.state_dict().values())


@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.IsolatedAtomWarning")
@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "uncompressed"])
def test_isolated_atoms_and_pairs(float64, backbone, NaCl, compress):
    """One without bonds, one with a single angle, alone and beside a crystal."""
    backbone = backbone.double().eval()
    atom = Structure(Lattice.cubic(30), ["Ar"], [[0, 0, 0]])
    pair = Structure(Lattice.cubic(30), ["O", "O"], [[0, 0, 0], [0, 0, 0.04]])
    table = make_table(backbone, [atom, pair, NaCl], compress=compress)
    together = structure_features(backbone, table)
    alone = torch.cat([structure_features(backbone, table[[row]]) for row in range(3)])
    assert together.isfinite().all()
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    assert make_table(backbone, [atom], compress=compress).n_bonds == 0


# --- training -------------------------------------------------------------------------------------------


def test_what_gets_no_gradient_in_training(backbone, crystals):
    """Unused parameters, and biases that normalisation takes away."""
    step(backbone, make_table(backbone, crystals))
    lacking = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    unused = {
        f"stages.{layer}.link_norm.{kind}"
        for layer in ("alignn_2.edge_update", "gcn_2.node_update")
        for kind in ("weight", "bias")
    }
    biases = {name for name, _ in backbone.named_parameters() if name.endswith((".own.bias", ".linear.bias"))}
    assert lacking == unused | biases


def test_it_can_learn_a_few_crystals_by_heart(crystals):
    torch.manual_seed(0)
    backbone, head = ALIGNN(**TINY), MLP(TINY["width"], widths=())
    batch = make_table(backbone, crystals).select(range(len(crystals)))
    targets = torch.linspace(-1, 1, len(crystals))[:, None]
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-2)
    backbone.train()
    for _ in range(150):
        optimizer.zero_grad()
        loss = mse_loss(head(backbone(batch).u), targets)
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


def test_table_of_other_graphs_is_refused(backbone, crystals):
    with pytest.raises(InvalidParameterError, match="built with"):
        make_table(backbone, GraphTable.from_structures(crystals))
