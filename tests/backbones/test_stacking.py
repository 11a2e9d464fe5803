"""Several networks at once against one after the other."""

import copy

import pytest
import torch
from torch import nn

from matmosaic.backbones import make_table, replace, trunk_depth, trunk_table, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.backbones.stacking import stacked_features, stacking_key
from matmosaic.graphs import GraphSettings
from matmosaic.testing import check_backbone

UNFROZEN = ["head", "conv_2", "last", ["conv_1", "last"], "all"]


@pytest.fixture
def networks(float64):
    """Three networks with statistics and weights of their own."""
    torch.manual_seed(1)
    made = [CGCNN(width=3, n_convolutions=3) for _ in range(3)]
    for network in made:
        for name, value in network.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.add_(0.3 * torch.rand_like(value))
    return made


@pytest.fixture
def table(networks, NaCl, SrTiO3, Si, CsCl):
    return make_table(networks[0], [NaCl, SrTiO3, Si, CsCl])


def after_trunks(networks, table):
    """Return each network's graphs and where all of them start."""
    tables = [trunk_table(network, table) for network in networks]
    return [one.select([2, 0, 1, 1]) for one in tables], trunk_depth(networks[0])


def shared(graphs, own=("x",)):
    """Let graphs share all but some features, as those of a mixture do."""
    return [replace(graphs[0], **{name: one[name] for name in own if name in one}) for one in graphs]


def gradients(networks):
    return [{name: one.grad for name, one in network.named_parameters()} for network in networks]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("unfrozen", UNFROZEN, ids=str)
def test_stacked_is_one_after_the_other(networks, table, unfrozen, training):
    for network in networks:
        unfreeze(network.train(training), unfrozen)
    graphs, start = after_trunks(networks, table)
    start = min(start, 3)  # A wholly frozen network still has its last convolution to run.
    if unfrozen == "head":
        graphs = [network(table.select([2, 0, 1, 1]), stop=start).detach() for network in networks]
    others = copy.deepcopy(networks)
    expected = [other(graph, start=start).u for other, graph in zip(others, graphs, strict=True)]
    found = stacked_features(networks, shared(graphs), start=start)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    if unfrozen != "head":
        upstream = torch.randn(3, 4, 3)
        for features in (found, expected):
            (torch.stack(features) * upstream).sum().backward()
        torch.testing.assert_close(gradients(networks), gradients(others), rtol=1e-8, atol=1e-12)
    for network, other in zip(networks, others, strict=True):
        torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=1e-10, atol=1e-12)


def test_running_statistics_are_each_networks_own(networks, table):
    before = copy.deepcopy([network.state_dict() for network in networks])
    for network in networks:
        unfreeze(network.train(), "last")
    graphs, start = after_trunks(networks, table)
    stacked_features(networks, shared(graphs), start=start)
    for old, network in zip(before, networks, strict=True):
        changed = {name for name, value in network.state_dict().items() if not value.equal(old[name])}
        norms = {f"stages.conv_3.{norm}." for norm in ("bond_norm", "atom_norm")}
        assert changed == {
            norm + name for norm in norms for name in ("running_mean", "running_var", "num_batches_tracked")
        }
        assert network.stages["conv_3"].bond_norm.num_batches_tracked == 1


@pytest.mark.parametrize("momentum", [0.3, None], ids=["exponential", "cumulative"])
def test_momentum_counts_for_all(networks, table, momentum):
    for network in networks:
        unfreeze(network.train(), "last")
        network.stages["conv_3"].bond_norm.momentum = momentum
    graphs, start = after_trunks(networks, table)
    others = copy.deepcopy(networks)
    for _ in range(3):
        stacked_features(networks, shared(graphs), start=start)
        for other, graph in zip(others, graphs, strict=True):
            other(graph, start=start)
    for network, other in zip(networks, others, strict=True):
        torch.testing.assert_close(network.state_dict(), other.state_dict())


def test_features_of_bonds_may_differ(networks, table):
    for network in networks:
        unfreeze(network, "last")
    graphs, start = after_trunks(networks, table)
    graphs = [replace(graph, edge_attr=graph.edge_attr * (1 + n)) for n, graph in enumerate(graphs)]
    for mode in (True, False):
        expected = [
            one.train(mode)(graph, start=start).u for one, graph in zip(networks, graphs, strict=True)
        ]
        found = stacked_features(networks, shared(graphs, own=("x", "edge_attr")), start=start)
        torch.testing.assert_close(found, expected)


def test_evaluation_without_gradients_works_in_blocks(networks, table, monkeypatch):
    monkeypatch.setattr("matmosaic.backbones.cgcnn.BLOCK", 7)
    graph = table.select(range(4))
    with torch.no_grad():
        expected = [network.eval()(graph).u for network in networks]
        found = stacked_features(networks, [graph] * 3)
    torch.testing.assert_close(found, expected)


# --- which networks can be stacked -------------------------------------------------------------------


def key_of(*, unfrozen="last", start=3, training=True, **options):
    network = CGCNN(**{"width": 3, "n_convolutions": 3, **options}).train(training)
    unfreeze(network, unfrozen)
    return stacking_key(network, start=start)


def test_networks_of_one_architecture_share_a_key():
    assert key_of() == key_of() is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 4},
        {"n_convolutions": 4},
        {"step": 0.1},
        {"unfrozen": "conv_1"},
        {"training": False},
        {"start": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_architecture_or_mode_has_another_key(changes):
    assert key_of(**changes) not in (key_of(), None)


class Stage(nn.Module):
    def forward(self, graph):
        return graph


class OwnForward(CGCNN):
    def forward(self, graph, *, start=0, stop=None):
        return super().forward(graph, start=start, stop=stop)


def test_what_cannot_be_stacked_has_no_key():
    network = CGCNN(width=3, n_convolutions=1, graph_settings=GraphSettings(cutoff=5.0))
    assert stacking_key(network, start=len(network.stages)) is None
    assert stacking_key(OwnForward(width=3, n_convolutions=1)) is None
    network.stages["own"] = Stage()
    assert stacking_key(network) is None


# --- the contract ------------------------------------------------------------------------------------


class ChannelsSecond(nn.Module):
    """Takes the second axis for that of channels, and says it may be stacked."""

    stackable = True

    def forward(self, graph):
        return replace(graph, x=graph.x - graph.x[:, :1])


class Unstackable(CGCNN):
    contract = 1

    def __init__(self, **options):
        super().__init__(**options)
        pooling = self.stages.pop("pooling")
        self.stages.update({"own": ChannelsSecond(), "pooling": pooling})


def test_check_finds_a_stage_that_does_not_do_as_it_says():
    with pytest.raises(AssertionError, match="Several networks at once have other features than each alone"):
        check_backbone(Unstackable, width=3, n_convolutions=1)
