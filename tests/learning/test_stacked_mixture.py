"""A mixture whose experts run at once, as on a GPU, against the same with one after the other."""

import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matmosaic.backbones import unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.graphs import GraphSettings
from matmosaic.learning import MixtureModel, TableDataset, TargetScale, make_net, mixture, predict_rows
from matmosaic.learning.aggregation import AGGREGATIONS
from matmosaic.learning.experts import ExpertBatch
from matmosaic.learning.gate import Gate

TARGETS = np.linspace(-1.5, 1.5, 12)


def make_mixture(*experts, unfrozen="last", n_active=None, aggregation="add"):
    """Make a mixture of tiny networks, by their options."""
    torch.manual_seed(0)
    made = [CGCNN(**{"width": 3, "n_convolutions": 2, **options}) for options in experts or [{}] * 4]
    for expert in made:
        unfreeze(expert, unfrozen)
    return MixtureModel(
        made,
        [f"m{number}" for number in range(len(made))],
        Gate(torch.linspace(0, 1, len(made)), n_active or len(made)),
        AGGREGATIONS[aggregation]([expert.n_features for expert in made], (4,)),
        gate_penalty=0.01,
    )


def stacked_and_not(model):
    """Return a model and a copy, of which the first runs its experts at once."""
    other = copy.deepcopy(model)
    model._stacked, other._stacked = True, False
    return model, other


def trunks(model, structures):
    return model.run_trunk(model.make_table(structures), batch_size=5)


def step(model, table):
    """Return outputs, gradients and what a step in training leaves behind."""
    model.train()
    out = model(table.select([3, 1, 7, 7, 0]))
    (out.square().mean() + model.penalty()).backward()
    return out.detach(), {name: one.grad for name, one in model.named_parameters()}, model.state_dict()


@pytest.fixture
def group_sizes(monkeypatch):
    """How many experts were run at once, of each group."""
    sizes = []
    stacked = mixture.stacked_features

    def count(experts, *args, **options):
        sizes.append(len(experts))
        return stacked(experts, *args, **options)

    monkeypatch.setattr(mixture, "stacked_features", count)
    return sizes


@pytest.mark.parametrize("n_active", [4, 2])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("unfrozen", ["last", ["conv_1", "last"], "all"], ids=str)
def test_a_step_is_the_same(unfrozen, aggregation, n_active, strained, group_sizes):
    models = stacked_and_not(make_mixture(unfrozen=unfrozen, aggregation=aggregation, n_active=n_active))
    stacked, looped = (step(model, trunks(model, strained)) for model in models)
    torch.testing.assert_close(stacked, looped, rtol=1e-5, atol=1e-6)
    assert group_sizes == [n_active]


@pytest.mark.parametrize("unfrozen", ["last", "all"])
def test_a_whole_fit_is_the_same(unfrozen, strained, float64):
    results = []
    for model in stacked_and_not(make_mixture(unfrozen=unfrozen, n_active=3)):
        rows = TableDataset(trunks(model, strained), TARGETS)
        torch.manual_seed(1)
        net = make_net(
            model,
            rows,
            scale=TargetScale(0.0, 1.0),
            max_epochs=4,
            patience=None,
            batch_size=5,
            learning_rate=0.01,
            backbone_learning_rate=0.005,
        ).fit(rows, None)
        history = [*net.history[:, "train_loss"], *net.history[:, "valid_mae"]]
        results.append((history, predict_rows(model, rows, batch_size=5), model.state_dict()))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("unfrozen", ["head", "last"])
def test_predictions_are_the_same(unfrozen, strained, group_sizes):
    """From structures on, and from where the trunks end; wholly frozen experts leave nothing to run."""
    models = stacked_and_not(make_mixture(unfrozen=unfrozen))
    results = []
    for model in models:
        rows = TableDataset(trunks(model, strained), TARGETS)
        whole = model.predict(model.make_table(strained), batch_size=7)
        results.append((whole, *model.all_features(rows, batch_size=5)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    assert group_sizes == [4] * (2 if unfrozen == "head" else 5)


@pytest.mark.parametrize(
    ("experts", "sizes"),
    [
        ([{}, {"graph_settings": GraphSettings(cutoff=5.0)}, {}], [2]),
        ([{}, {"n_convolutions": 3}, {"n_convolutions": 3}, {}], [2, 2]),
        ([{}, {"n_convolutions": 3}], []),
    ],
    ids=["graphs", "two groups", "all different"],
)
def test_experts_of_one_architecture_run_at_once(experts, sizes, strained, group_sizes):
    models = stacked_and_not(make_mixture(*experts))
    stacked, looped = (step(model, trunks(model, strained)) for model in models)
    torch.testing.assert_close(stacked, looped, rtol=1e-5, atol=1e-6)
    assert group_sizes == sizes


def test_experts_of_which_other_layers_are_trained_run_alone(strained, group_sizes):
    model = make_mixture()
    unfreeze(model.backbones[1], "all")
    unfreeze(model.backbones[2], "head")
    models = stacked_and_not(model)
    stacked, looped = (step(model, trunks(model, strained)) for model in models)
    torch.testing.assert_close(stacked, looped, rtol=1e-5, atol=1e-6)
    assert group_sizes == [2]


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_cpu_runs_experts_side_by_side(on_cpu, strained, group_sizes, monkeypatch):
    model = make_mixture()
    monkeypatch.setattr(ExpertBatch, "on_cpu", on_cpu)
    step(model, trunks(model, strained))
    assert group_sizes == ([] if on_cpu else [4])


class Count(TorchDispatchMode):
    """Count operations that compute something."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.total += not function.is_view
        return function(*args, **(kwargs or {}))


def test_more_experts_cost_hardly_more_operations(strained):
    """On a GPU each is a launch: stacked, only what the trunk gave is gathered for each expert."""

    def count(n_experts, *, stacked):
        model = make_mixture(*[{}] * n_experts).train()
        model._stacked = stacked
        table = trunks(model, strained)
        with Count() as counted:
            features = model.features(table.select([3, 1, 7, 7, 0]), list(range(n_experts)))
            torch.stack(features).sum().backward()
        return counted.total

    per_expert = {
        stacked: (count(8, stacked=stacked) - count(3, stacked=stacked)) / 5 for stacked in (True, False)
    }
    assert per_expert[True] <= 3
    assert per_expert[False] >= 60
