"""A mixture against its formulas written out, with cached trunks and without, side by side and not."""

import copy
import threading

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matmosaic.backbones import MLP, make_table, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import InvalidParameterError, UnsupportedElementError
from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.learning import (
    MixtureModel,
    RegressionModel,
    TableDataset,
    TargetScale,
    make_net,
    predict_rows,
)
from matmosaic.learning.aggregation import AGGREGATIONS
from matmosaic.learning.gate import Gate

TARGETS = np.linspace(-1.5, 1.5, 12)
ONE = TargetScale(0.0, 1.0)
UNFROZEN = ["head", "last", "all"]


@pytest.fixture
def make_mixture():
    """Make a mixture of tiny networks, by their graph settings."""

    def make(
        *settings,
        unfrozen="last",
        scores=None,
        n_active=None,
        aggregation="add",
        gate_penalty=0.01,
        **options,
    ):
        torch.manual_seed(0)
        experts = [CGCNN(width=3, n_convolutions=2, graph_settings=one) for one in settings or (None,) * 3]
        for expert in experts:
            unfreeze(expert, unfrozen)
        scores = torch.linspace(0, 1, len(experts)) if scores is None else torch.tensor(scores)
        return MixtureModel(
            experts,
            [f"m{number}" for number in range(len(experts))],
            Gate(scores, n_active or len(experts)),
            AGGREGATIONS[aggregation]([3] * len(experts), (4,)),
            gate_penalty=gate_penalty,
            **options,
        )

    return make


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def net_of(model, validation=None):
    return make_net(
        model,
        validation,
        scale=ONE,
        max_epochs=4,
        patience=None,
        batch_size=5,
        learning_rate=0.01,
        backbone_learning_rate=0.005,
    )


def gradients(model):
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def step(model, table, rows=range(12)):
    """Return outputs and gradients of a step in training."""
    model.train()
    out = model(table.select(list(rows)))
    (out.square().mean() + model.penalty()).backward()
    return out.detach(), gradients(model)


def assert_same_step(one, other, **tolerance):
    torch.testing.assert_close(one[0], other[0], **tolerance)
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        torch.testing.assert_close(one[1][name], other[1][name], **tolerance)


# --- the formulas ------------------------------------------------------------------------------------


def test_forward_pass_and_loss_by_hand(make_mixture, strained, float64):
    """Two of three experts are active: sum of G_i u_i, a head with softplus, and the penalised loss."""
    model = make_mixture(scores=[0.3, -0.2, 1.1], n_active=2, gate_penalty=0.7)
    weights = np.linspace(1, 2, 12)
    rows = TableDataset(model.run_trunk(model.make_table(strained), batch_size=5), TARGETS, weights)
    batch, targets = rows.__getitems__(range(12))
    experts = copy.deepcopy(model.backbones)
    graph = make_table(experts[0], strained).select(range(12))
    u = [expert.train()(graph).u.detach().numpy() for expert in experts]  # batch statistics in conv_2

    kept = np.exp([0.3, 1.1])
    gate = kept / kept.sum()
    mixed = gate[0] * u[0] + gate[1] * u[2]
    first, last = (
        (one.weight.detach().numpy(), one.bias.detach().numpy()) for one in model.aggregation.head.layers
    )
    hidden = np.log(1 + np.exp(mixed @ first[0].T + first[1]))
    expected = (hidden @ last[0].T + last[1])[:, 0]
    squared = (weights * (expected - TARGETS) ** 2).sum() / weights.sum()
    penalty = 0.7 * ((gate**2).sum() - 1) ** 2

    net = net_of(model).initialize()
    net.module_.train()
    got = net.infer(batch)
    np.testing.assert_allclose(got[:, 0].detach(), expected, rtol=1e-10)
    np.testing.assert_allclose(
        net.get_loss(got, targets, training=True).item(), squared + penalty, rtol=1e-10
    )
    np.testing.assert_allclose(net.get_loss(got, targets, training=False).item(), squared, rtol=1e-10)


def test_history_holds_the_penalty_in_training_alone(make_mixture, strained):
    model = make_mixture(gate_penalty=100.0)
    rows = TableDataset(model.run_trunk(model.make_table(strained), batch_size=5), TARGETS)
    history = net_of(model, rows).fit(rows, None).history
    assert min(history[:, "train_loss"]) > 10 > max(history[:, "valid_loss"])


def test_mixture_of_one_is_that_network(make_mixture, strained, float64):
    """G = 1: the same numbers as a backbone and a head, and the gate learns nothing."""
    model = make_mixture(None, gate_penalty=0.01)
    single = RegressionModel(copy.deepcopy(model.backbones[0]), MLP(3, (4,)))
    single.head.load_state_dict(model.aggregation.head.state_dict())
    model.train()
    out = model(model.run_trunk(model.make_table(strained), batch_size=5).select(range(12)))
    expected = single.train()(single.run_trunk(single.make_table(strained), batch_size=5).select(range(12)))
    torch.testing.assert_close(out, expected)
    assert model.penalty().item() == 0
    out.sum().backward()
    assert model.gate.scores.grad.tolist() == [0]


# --- what is trained ---------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_only_active_experts_get_a_gradient(aggregation, make_mixture, strained):
    model = make_mixture(scores=[1.0, 1.0, 1.0], n_active=2, aggregation=aggregation, unfrozen="all")
    _, grads = step(model, model.run_trunk(model.make_table(strained), batch_size=5))
    assert {name.split(".")[1] for name in grads if name.startswith("experts.")} == {"0", "1"}
    assert grads["gate.scores"][2] == 0
    assert (grads["gate.scores"][:2] != 0).all()


def test_inactive_experts_are_not_run(make_mixture, strained, monkeypatch):
    model = make_mixture(scores=[0.0, 2.0, 1.0], n_active=2)
    table = model.run_trunk(model.make_table(strained), batch_size=5)
    monkeypatch.setattr(model.backbones[0], "forward", lambda *args, **kwargs: 1 / 0)
    assert model.predict(table).shape == (12, 1)
    step(model, table)


def test_frozen_layers_stay_in_evaluation_mode(make_mixture):
    model = make_mixture(unfrozen="last")
    for mode in (False, True):
        model.train(mode)
        assert [expert.stages["conv_1"].bond_norm.training for expert in model.backbones] == [False] * 3
        assert [expert.stages["conv_2"].bond_norm.training for expert in model.backbones] == [mode] * 3


# --- cached and uncached, side by side and not -------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("unfrozen", UNFROZEN)
def test_cached_trunks_train_as_whole_networks_do(unfrozen, aggregation, make_mixture, strained, float64):
    model = make_mixture(
        GraphSettings(), GraphSettings(cutoff=5.0), unfrozen=unfrozen, aggregation=aggregation
    )
    other = copy.deepcopy(model)
    table = model.make_table(strained)
    cached = step(model, model.run_trunk(table, batch_size=5), rows=[3, 1, 7, 7])
    assert_same_step(cached, step(other, table, rows=[3, 1, 7, 7]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("unfrozen", UNFROZEN)
def test_whole_training_is_the_same_cached_and_uncached(unfrozen, make_mixture, strained, float64):
    histories = []
    for cached in (True, False):
        model = make_mixture(unfrozen=unfrozen)
        table = model.make_table(strained)
        rows = TableDataset(model.run_trunk(table, batch_size=5) if cached else table, TARGETS)
        torch.manual_seed(1)
        net = net_of(model, rows).fit(rows, None)
        histories.append([*net.history[:, "train_loss"], *net.history[:, "valid_mae"]])
    np.testing.assert_allclose(*histories, rtol=1e-5)


@pytest.mark.parametrize("unfrozen", UNFROZEN)
def test_side_by_side_is_one_after_the_other(unfrozen, make_mixture, strained, two_threads):
    model = make_mixture(unfrozen=unfrozen)
    table = model.run_trunk(model.make_table(strained), batch_size=5)
    other = copy.deepcopy(model)
    names = set()
    for expert in model.backbones:
        expert.stages["pooling"].register_forward_hook(lambda *_: names.add(threading.current_thread().name))
    parallel = step(model, table)
    assert all(name.startswith("matmosaic") for name in names)
    torch.set_num_threads(1)
    assert_same_step(parallel, step(other, table), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other.state_dict(), model.state_dict())  # running statistics too


def test_no_global_state_is_changed(make_mixture, strained, two_threads):
    model = make_mixture()
    table = model.run_trunk(model.make_table(strained), batch_size=5)
    step(model, table)
    model.predict(table)
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()


def test_predictions_in_batches_are_predictions_at_once(make_mixture, strained):
    model = make_mixture()
    table = model.make_table(strained)
    small = model.predict(table, batch_size=5)
    torch.testing.assert_close(small, model.predict(table, batch_size=100))
    rows = TableDataset(model.run_trunk(table, batch_size=7), TARGETS)
    torch.testing.assert_close(small, predict_rows(model, rows, batch_size=5))
    assert not small.requires_grad


def test_all_features_are_those_of_each_expert(make_mixture, strained):
    model = make_mixture(GraphSettings(), GraphSettings(cutoff=5.0), n_active=1)
    rows = TableDataset(model.run_trunk(model.make_table(strained), batch_size=5), TARGETS)
    found = model.all_features(rows, batch_size=5)
    for expert, features in zip(model.backbones, found, strict=True):
        expected = expert(make_table(expert, strained).select(range(12))).u.detach()
        torch.testing.assert_close(features, expected)


# --- graphs ------------------------------------------------------------------------------------------


def test_experts_of_equal_settings_share_a_table(make_mixture, strained):
    table = make_mixture(None, GraphSettings(cutoff=5.0), None).make_table(strained)
    assert [one.table for one in table.inputs] == [0, 1, 0]
    assert [one.settings.cutoff for one in table.tables] == [8.0, 5.0]
    assert len(table) == 12


def test_a_given_table_serves_experts_of_its_settings(make_mixture, strained):
    given = GraphTable.from_structures(strained)
    assert make_mixture().make_table(given).tables == [given]


def test_a_given_table_cannot_serve_two_settings(make_mixture, strained):
    given = GraphTable.from_structures(strained)
    with pytest.raises(
        InvalidParameterError, match=r"'m1': .*cutoff=5.0.* Give structures instead"
    ) as caught:
        make_mixture(None, GraphSettings(cutoff=5.0)).make_table(given)
    assert "'X' is a GraphTable, but the modules need graphs of different settings" in str(caught.value)


def test_unknown_elements_are_named_with_module_and_rows(make_mixture, strained, monkeypatch):
    """Caesium is unknown to the second module alone."""
    salt = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    model = make_mixture()
    monkeypatch.setattr(model.backbones[1], "elements", lambda: frozenset({11, 17}))
    with pytest.raises(
        UnsupportedElementError,
        match=r"X\[1\], X\[2\] \(2 rows\).*'m1'.*\[55\]. Remove these rows, or leave out",
    ):
        model.make_table([salt, *strained[:2]])
    assert model.elements() == frozenset({11, 17})


def test_elements_are_those_that_all_know(make_mixture, monkeypatch):
    model = make_mixture()
    assert model.elements() == CGCNN().elements()
    for expert in model.backbones:
        monkeypatch.setattr(expert, "elements", lambda: None)
    assert model.elements() is None
