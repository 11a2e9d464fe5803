"""Adapters start as nothing, fit between the stages of any backbone, and are all that is trained."""

import copy
import pickle

import pytest
import torch
from torch import nn

from matmosaic.backbones import (
    Backbone,
    drop,
    insert_adapters,
    make_table,
    replace,
    structure_features,
    trunk_depth,
    trunk_table,
    unfreeze,
)
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.backbones.stacking import stacked_features, stacking_key
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphSettings


def make_cgcnn():
    return CGCNN(width=6, n_convolutions=2)


def make_alignn():
    return ALIGNN(width=6, embedding_width=4, n_alignn=1, n_gcn=1, n_radial=8, n_angular=4)


class Counting(nn.Module):
    """Features of bonds alone."""

    def forward(self, graph):
        return replace(graph, edge_attr=graph.distance[:, None])


class Summing(nn.Module):
    """Features of atoms from those of bonds, of another width than those of structures."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 5)

    def forward(self, graph):
        x = torch.zeros(len(graph.z), 5).index_add(0, graph.edge_index[1], self.linear(graph.edge_attr))
        return drop(replace(graph, x=x), "edge_attr")


class Reading(nn.Module):
    """Features of structures, twice as wide."""

    def forward(self, graph):
        total = torch.zeros(graph.num_graphs, 5).index_add(0, graph.batch, graph.x)
        return replace(graph, x=graph.x.relu(), u=torch.cat([total, -total], dim=1))


class Foreign(Backbone):
    """A backbone of a stranger, which weighs nothing and leaves a gap out."""

    n_features = 10

    def __init__(self, *, graph_settings=None):
        super().__init__()
        self.graph_settings = graph_settings or GraphSettings(ties="reference")
        self.stages = nn.ModuleDict({"counting": Counting(), "summing": Summing(), "reading": Reading()})

    def options(self):
        return {}

    def elements(self):
        return frozenset({11, 17, 29})

    def cuts(self):
        return [0, 2, 3]


MAKERS = [make_cgcnn, make_alignn, Foreign]


@pytest.fixture(params=MAKERS, ids=["cgcnn", "alignn", "foreign"])
def backbone(request):
    return request.param()


@pytest.fixture
def salts(NaCl, Cu):
    return [NaCl, Cu, NaCl.copy().apply_strain(0.03, inplace=False)]


def shaken(backbone):
    """Insert adapters that do something."""
    adapted = insert_adapters(backbone)
    with torch.no_grad():
        for parameter in adapted.adapters.parameters():
            parameter.normal_(0, 0.3)
    return adapted


def test_new_adapters_do_nothing(backbone, salts):
    expected = structure_features(backbone, salts)
    state = copy.deepcopy(backbone.state_dict())
    adapted = insert_adapters(backbone)
    assert torch.equal(structure_features(adapted, salts), expected)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), "finding widths moved statistics"


def test_adapters_do_something_once_trained(backbone, salts):
    before = structure_features(backbone, salts)
    assert not torch.allclose(structure_features(shaken(backbone), salts), before, atol=1e-3)


def test_stages_of_a_stranger():
    adapted = insert_adapters(Foreign())
    assert list(adapted.stages) == ["counting", "summing", "summing_adapter", "reading"]
    assert adapted.adapters["summing"].down.weight.shape == (2, 5)  # half the width of the atoms
    assert adapted.cuts() == [0, 2, 3, 4]
    assert adapted.elements() == frozenset({11, 17, 29})
    assert not adapted.supports_weights


def test_features_that_the_head_reads_have_no_adapter():
    """The head knows how much each of them varies; CHGNet's do by 2e-5 to 3."""
    assert list(insert_adapters(make_cgcnn()).adapters) == ["embedding", "conv_1"]


def test_a_single_stage_of_atoms_is_adapted_behind_the_last(salts):
    class Short(Foreign):
        def __init__(self):
            super().__init__()
            del self.stages["reading"]
            self.stages["pooling"] = Pooling()

        def cuts(self):
            return [0, 2]

    class Pooling(Reading):
        def forward(self, graph):
            return drop(super().forward(graph), "x")

    adapted = shaken(Short())
    assert list(adapted.adapters) == ["pooling"]
    assert adapted.adapters["pooling"].down.weight.shape == (5, 10)
    assert not torch.allclose(structure_features(adapted, salts), structure_features(adapted.base, salts))


def test_gaps_that_the_backbone_leaves_out_stay_left_out():
    adapted = insert_adapters(make_alignn())
    names = ["embedding", "alignn_1", "gcn_1", "pooling"]
    assert list(adapted.stages) == [names[0], "embedding_adapter", names[1], "alignn_1_adapter", *names[2:]]
    assert adapted.cuts() == [0, 3, 4, 5, 6]


def test_groups_are_those_of_the_backbone_and_adapters(backbone):
    adapted = insert_adapters(backbone)
    groups = adapted.layer_groups()
    assert set(groups) == {*backbone.layer_groups(), "adapters"}
    for group in backbone.layer_groups():
        expected = [f"base.{name}" for name in unfreeze(backbone, group)]
        assert unfreeze(adapted, group) == expected
    own = unfreeze(adapted, "adapters")
    assert own == [f"adapters.{name}" for name, _ in adapted.adapters.named_parameters()]
    assert len(unfreeze(adapted, "all")) == len(list(backbone.parameters())) + len(own)


def test_all_but_adapters_is_frozen(backbone, salts):
    adapted = shaken(backbone)
    unfreeze(adapted, "adapters")
    before = copy.deepcopy(adapted.state_dict())
    batch = make_table(adapted, salts).select([0, 1, 2])
    optimiser = torch.optim.Adam(adapted.parameters(), lr=0.01)
    for _ in range(2):
        adapted.train()
        assert not any(part.training for part in adapted.base.modules())
        optimiser.zero_grad()
        adapted(batch).u.square().mean().backward()
        optimiser.step()
    moved = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("adapters.")}


def test_adapters_can_overfit(crystals):
    """What a fixed head reads of eight crystals takes any values, though the backbone is fixed, too."""
    adapted = insert_adapters(CGCNN(width=16, n_convolutions=2))
    unfreeze(adapted.train(), "adapters")
    batch = make_table(adapted, crystals).select(range(len(crystals)))
    target, head = torch.randn(len(crystals)), torch.randn(16)
    optimiser = torch.optim.Adam(adapted.adapters.parameters(), lr=0.01)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (adapted(batch).u @ head - target).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.01 * target.var()


@pytest.mark.parametrize("unfrozen", ["head", "adapters", "last", "all"])
def test_cached_trunk_gives_the_same(backbone, salts, unfrozen):
    adapted = shaken(backbone)
    table = make_table(adapted, salts)
    unfreeze(adapted.eval(), unfrozen)
    depth = trunk_depth(adapted)
    tail = adapted(trunk_table(adapted, table).select([2, 0]), start=depth).u
    torch.testing.assert_close(tail, adapted(table.select([2, 0])).u, rtol=1e-6, atol=1e-6)


def test_what_stands_before_the_first_adapter_is_run_once(salts):
    depths = {}
    for make in MAKERS:
        adapted = insert_adapters(make())
        unfreeze(adapted, "adapters")
        depths[make] = trunk_depth(adapted)
    # The embedding; of ALIGNN it would have to keep angles.
    assert list(depths.values()) == [1, 0, 2]


def test_compressed_graphs_give_the_same(crystals):
    adapted = shaken(make_cgcnn())
    unfreeze(adapted, "adapters")
    gradients = []
    for compress in (True, False):
        table = make_table(adapted, crystals, compress=compress)
        features = adapted.train()(table.select(range(len(crystals)))).u
        gradients.append(torch.autograd.grad(features.square().sum(), list(adapted.adapters.parameters())))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_adapters_are_inserted_once(backbone):
    adapted = insert_adapters(backbone)
    assert insert_adapters(adapted) is adapted


@pytest.mark.parametrize("reduction", [1, 3, 100])
def test_reduction(reduction):
    adapted = insert_adapters(make_cgcnn(), reduction=reduction)
    assert {one.down.out_features for one in adapted.adapters.values()} == {max(1, 6 // reduction)}


@pytest.mark.parametrize("reduction", [0, 2.0, True, "2"])
def test_bad_reduction(reduction):
    with pytest.raises(InvalidParameterError, match="'reduction' must be an int >= 1"):
        insert_adapters(make_cgcnn(), reduction=reduction)


@pytest.mark.parametrize("mode", [True, False])
def test_mode_is_kept(mode):
    assert insert_adapters(make_cgcnn().train(mode)).training is mode


def test_precision_and_copies(float64, salts):
    torch.set_default_dtype(torch.float32)
    single = make_cgcnn()
    torch.set_default_dtype(torch.float64)
    assert {one.dtype for one in insert_adapters(single).adapters.parameters()} == {torch.float32}
    adapted = shaken(make_cgcnn())
    expected = structure_features(adapted, salts)
    for twin in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert torch.equal(structure_features(twin, salts), expected)


def test_adapted_networks_run_at_once(float64, salts):
    networks = [shaken(make_cgcnn()) for _ in range(3)]
    table = make_table(networks[0], salts)
    for network in networks:
        unfreeze(network.train(), "adapters")
    assert len({stacking_key(one) for one in networks}) == 1
    batch = table.select([0, 1, 2])
    expected = [network(batch).u for network in networks]
    torch.testing.assert_close(stacked_features(networks, [batch] * 3), expected)
    other = insert_adapters(make_cgcnn(), reduction=3)
    unfreeze(other.train(), "adapters")
    assert stacking_key(other) != stacking_key(networks[0])
