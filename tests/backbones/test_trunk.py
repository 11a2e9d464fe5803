import pytest
import torch
from torch import nn

from matmosaic.backbones import (
    Backbone,
    make_table,
    replace,
    structure_features,
    trunk_depth,
    trunk_table,
    unfreeze,
)
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphSettings, GraphTable

CHOICES = ["head", "last", "conv_2", ["conv_1", "conv_3"], ["embedding"], "all"]


@pytest.fixture
def backbone():
    return CGCNN(width=6, n_convolutions=3)


class Unweighted(Backbone):
    """Counts atoms, and does not know of weights."""

    def __init__(self):
        super().__init__()
        self.graph_settings = GraphSettings(ties="reference")
        self.n_features = 1
        self.stages = nn.ModuleDict({"count": Count()})

    def options(self):
        return {}


class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, graph):
        return replace(graph, u=torch.bincount(graph.batch, minlength=graph.num_graphs)[:, None] * self.one)


@pytest.mark.parametrize("unfrozen", CHOICES, ids=str)
def test_trunk_and_tail_equal_the_whole(float64, crystals, unfrozen):
    backbone = CGCNN(width=6, n_convolutions=3).eval()
    unfreeze(backbone, unfrozen)
    table = make_table(backbone, crystals)
    cached = trunk_table(backbone, table, batch_size=3)
    expected = backbone(table.select([6, 1, 4])).u
    found = backbone(cached.select([6, 1, 4]), start=trunk_depth(backbone)).u
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unfrozen", CHOICES, ids=str)
def test_training_on_the_cached_trunk_equals_training_without(float64, crystals, unfrozen):
    results = []
    for cached in (True, False):
        torch.manual_seed(3)
        backbone = CGCNN(width=6, n_convolutions=3)
        head = nn.Linear(6, 1)
        unfreeze(backbone, unfrozen)
        table = make_table(backbone, crystals)
        depth = trunk_depth(backbone) if cached else 0
        table = trunk_table(backbone, table) if cached else table
        optimiser = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01)
        losses = []
        for step in range(5):
            rows = torch.arange(step % 2, 8, 2)
            backbone.train()
            optimiser.zero_grad()
            loss = (head(backbone(table.select(rows), start=depth).u) - rows[:, None] / 8).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        results.append((torch.stack(losses), backbone.state_dict()))
    (losses, state), (other_losses, other_state) = results
    torch.testing.assert_close(losses, other_losses, rtol=0, atol=1e-9)
    torch.testing.assert_close(state, other_state, rtol=0, atol=1e-6)


def test_whole_backbone_keeps_features_alone(backbone, crystals):
    unfreeze(backbone, "head")
    table = make_table(backbone, crystals)
    cached = trunk_table(backbone, table)
    assert set(cached.fields) == {"u"}
    assert torch.equal(cached.fields["u"], structure_features(backbone, crystals))
    assert cached.nbytes < table.nbytes


def test_unfrozen_backbone_has_no_trunk(backbone, crystals):
    unfreeze(backbone, "all")
    table = make_table(backbone, crystals)
    assert trunk_table(backbone, table) is table


def test_running_the_trunk_changes_nothing(backbone, crystals):
    unfreeze(backbone, "last")
    backbone.train()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    table = make_table(backbone, crystals)
    cached = trunk_table(backbone, table)
    structure_features(backbone, table)
    assert backbone.training
    assert backbone.stages["conv_3"].training
    assert "x" not in table.fields
    assert not cached.fields["x"].requires_grad
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name])


def test_mode_is_restored_after_a_failure(backbone, crystals, monkeypatch):
    backbone.train()
    table = make_table(backbone, crystals)
    monkeypatch.setattr(backbone.stages["pooling"], "forward", lambda graph: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        structure_features(backbone, table)
    assert backbone.training


def test_table_of_other_settings_is_refused(backbone, crystals):
    table = GraphTable.from_structures(crystals, GraphSettings(cutoff=5.0))
    with pytest.raises(InvalidParameterError, match=r"cutoff=5.0.*needs .*cutoff=8.0.*from_structures"):
        make_table(backbone, table)


def test_compressed_table_is_refused_without_weights(crystals):
    table = GraphTable.from_structures(crystals, GraphSettings(ties="reference"))
    with pytest.raises(InvalidParameterError, match="Unweighted does not support weights.*compressed=False"):
        make_table(Unweighted(), table)


def test_backbone_without_weights_gets_every_atom(crystals):
    table = make_table(Unweighted(), crystals)
    assert not table.compressed
    counts = structure_features(Unweighted(), crystals)[:, 0]
    assert counts.tolist() == [len(crystal) for crystal in crystals]


def test_compression_can_be_turned_off(backbone, crystals):
    assert make_table(backbone, crystals).compressed
    assert not make_table(backbone, crystals, compress=False).compressed


def test_given_table_is_taken_as_it_is(backbone, crystals):
    table = make_table(backbone, crystals, compress=False)
    assert make_table(backbone, table) is table


def test_replace_leaves_the_graph_alone(backbone, crystals):
    batch = make_table(backbone, crystals).select([0, 1])
    new = replace(batch, x=torch.zeros(len(batch.z), 2), distance=batch.distance * 2)
    assert "x" not in batch
    assert not torch.equal(batch.distance, new.distance)
    assert (type(new), new.num_graphs) == (type(batch), 2)
    assert new.z is batch.z


def test_shared_places_need_a_backbone_that_weighs_bonds(NaCl):
    backbone = CGCNN(width=4, n_convolutions=1)
    backbone.supports_weights = False
    with pytest.raises(InvalidParameterError, match=r"graph_settings=GraphSettings\(ties='reference'\)"):
        make_table(backbone, [NaCl])
    backbone.graph_settings = GraphSettings(ties="reference")
    assert not make_table(backbone, [NaCl]).compressed
    assert not GraphTable.from_structures([NaCl], backbone).compressed
