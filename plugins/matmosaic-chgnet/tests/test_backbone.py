"""The contract of backbones, and what this one does differently."""

import pytest
import torch
from matmosaic_chgnet import CHGNet, graph_settings
from pymatgen.core import Lattice, Structure

from matmosaic.backbones import make_table, structure_features, trunk_depth, trunk_table, unfreeze
from matmosaic.exceptions import InvalidParameterError, UnknownNameError, UnsupportedElementError
from matmosaic.graphs import GraphSettings
from matmosaic.testing import check_backbone

SMALL = {"width": 4, "n_radial": 5, "n_angular": 5, "n_blocks": 3}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalise": False, "out_bias": True, "envelope_power": 5, "n_hidden": 2},
        {"readout": ["mean"], "n_blocks": 4},
        {"readout": ["energy", "early_std"]},
    ],
    ids=str,
)
def test_keeps_the_contract(options):
    check_backbone(CHGNet, **{**SMALL, **options})


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("out_bias", [True, False])
def test_compression_changes_neither_features_nor_gradients(crystals, out_bias):
    torch.manual_seed(0)
    backbone = CHGNet(**SMALL, out_bias=out_bias)
    unfreeze(backbone, "all")
    found = []
    for compress in (True, False):
        table = make_table(backbone, crystals, compress=compress)
        features = backbone.train()(table.select(range(len(crystals)))).u
        weight = torch.sin(torch.arange(features.numel(), dtype=features.dtype)).view_as(features)
        found.append([features, *torch.autograd.grad((features * weight).sum(), list(backbone.parameters()))])
    for compressed, whole in zip(*found, strict=True):
        torch.testing.assert_close(compressed, whole, rtol=1e-10, atol=1e-10)


def test_trunk_ends_before_the_last_block_and_keeps_no_angles(crystals):
    backbone = CHGNet(**SMALL)
    unfreeze(backbone, "last")
    table = make_table(backbone, crystals)
    assert trunk_depth(backbone) == backbone.n_blocks == len(backbone.stages) - 2
    kept = trunk_table(backbone, table)
    assert kept.fields["x"].shape == (table.n_atoms, backbone.width)
    assert kept.fields["edge_attr"].shape == (table.n_bonds, 2 * backbone.width)


def test_groups_cut_across_blocks():
    backbone = CHGNet(**SMALL)
    moved = {}
    for group in ("two_body", "three_body", "last"):
        unfreeze(backbone, group)
        moved[group] = {
            ".".join(name.split(".")[1:3]) for name, one in backbone.named_parameters() if one.requires_grad
        }
    assert moved["two_body"] == {f"block_{i}.atom_update" for i in (1, 2, 3)}
    assert moved["three_body"] == {"block_1.bond_update", "block_1.angle_update", "block_2.bond_update"}
    assert moved["last"] == {"block_3.atom_update", "block_3.norm"}


def molecules(*positions):
    """One silicon atom at the origin, with oxygen at (2, 0, 0) and fluorine at a position in Å."""
    box = Lattice.cubic(30)
    sites = [[0, 0, 0], [2, 0, 0]]
    return [
        Structure(box, ["Si", "O", "F"], [*sites, position], coords_are_cartesian=True)
        for position in positions
    ]


@pytest.mark.parametrize("cutoff", [6.0, 3.0])
def test_features_change_smoothly_where_bonds_and_angles_begin(cutoff):
    """The third atom is always bonded to the second; at 6 Å to the first, at 3 Å there are angles."""
    torch.manual_seed(0)
    backbone = CHGNet(**SMALL)
    far, near = ([cutoff + step, 0.1, 0] for step in (1e-4, -1e-4))
    outside, inside, before = structure_features(backbone, molecules(far, near, [cutoff - 0.5, 0.1, 0]))
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-3)
    assert (before - outside).abs().max() > 1e-2


def test_features_feel_angles():
    """Bonds of silicon alone make angles: a right one, or a straight one."""
    torch.manual_seed(0)
    backbone = CHGNet(**SMALL, graph_settings=graph_settings(2.9, 2.9))
    with torch.no_grad():  # a new network feels angles little
        for parameter in backbone.parameters():
            parameter *= 3
    right, straight = structure_features(backbone, molecules([0, 2.2, 0], [-2.2, 0, 0]))
    assert (right - straight).abs().max() > 1e-4


def test_elements_beyond_plutonium_are_refused():
    heavy = Structure(Lattice.cubic(5.0), ["Am"], [[0, 0, 0]])
    with pytest.raises(UnsupportedElementError, match=r"X\[0\].*95"):
        make_table(CHGNet(**SMALL), [heavy])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_blocks": 2}, InvalidParameterError, "n_blocks >= 3. Got 2"),
        ({"n_angular": 6}, InvalidParameterError, "odd n_angular. Got 6"),
        ({"readout": ["maen"]}, UnknownNameError, "Did you mean 'mean'"),
        ({"readout": []}, InvalidParameterError, "'readout' must name some of"),
        ({"graph_settings": GraphSettings()}, InvalidParameterError, "needs undirected graphs with angles"),
    ],
)
def test_impossible_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        CHGNet(**options)
