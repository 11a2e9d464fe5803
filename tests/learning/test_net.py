import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from matmosaic.learning import TableDataset, TargetScale, make_net
from matmosaic.learning.net import WeightedLoss

TARGETS = np.linspace(-1.5, 1.5, 12)
ONE = TargetScale(0.0, 1.0)


def trained(model, table, *, validation=None, weights=None, **options):
    settings = {
        "scale": ONE,
        "max_epochs": 8,
        "patience": None,
        "batch_size": 5,
        "learning_rate": 0.01,
        "backbone_learning_rate": 0.005,
        **options,
    }
    rows = np.arange(12) if validation is None else np.arange(9)
    held = None if validation is None else TableDataset(table, validation, rows=np.arange(9, 12))
    dataset = TableDataset(table, TARGETS[rows], weights, rows=rows)
    return make_net(model, held, **settings).fit(dataset, None)


class Snapshots(Callback):
    """Keep the state of the model after each epoch."""

    def __init__(self):
        self.states = []

    def on_epoch_end(self, net, **kwargs):
        self.states.append({name: value.clone() for name, value in net.module_.state_dict().items()})


def test_weighted_loss():
    prediction = torch.tensor([[1.0], [2.0], [5.0]])
    target = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    assert WeightedLoss()(prediction, target).item() == pytest.approx((1 + 3 * 4) / 4)
    target[:, 1] = 1
    expected = torch.nn.functional.mse_loss(prediction, target[:, :1])
    torch.testing.assert_close(WeightedLoss()(prediction, target), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1 + 3 * 4 + 3 * 16) / 7),
        ({"error": "l1"}, (1 + 3 * 2 + 3 * 4) / 7),
        ({"error": "l1", "reduction": "reference"}, (1 + 3 * 2 + 3 * 4) / (2 * 1 + 2 * 3)),
    ],
    ids=lambda value: "-".join(value.values()) or "mse" if isinstance(value, dict) else None,
)
def test_loss_of_several_targets(options, expected):
    """The first row lacks its second target; the second row counts three times."""
    prediction = torch.tensor([[1.0, 9.0], [2.0, 5.0]])
    target = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 3.0, 3.0]])
    assert WeightedLoss(**options)(prediction, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("reduction", ["present", "reference"])
def test_loss_without_any_weight_teaches_nothing(reduction):
    prediction = torch.ones(3, 1, requires_grad=True)
    loss = WeightedLoss(reduction=reduction)(prediction, torch.zeros(3, 2))
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad.tolist() == [[0]] * 3


def test_batch_of_rows_without_weight_does_not_spoil_training(make_model):
    model, table = make_model("last")
    weights = np.ones(12)
    weights[[1, 2, 3, 4, 5, 6]] = 0
    net = trained(model, table, weights=weights, batch_size=1)
    assert all(value.isfinite().all() for value in net.module_.state_dict().values())
    assert np.isfinite(net.history[:, "train_loss"]).all()


def test_small_network_overfits(make_model):
    model, table = make_model("all", width=16)
    noise = np.random.default_rng(5).permutation(TARGETS)
    net = make_net(
        model,
        None,
        scale=ONE,
        max_epochs=150,
        patience=None,
        batch_size=12,
        learning_rate=0.02,
        backbone_learning_rate=0.02,
    ).fit(TableDataset(table, noise), None)
    losses = net.history[:, "train_loss"]
    assert losses[0] > 0.5
    assert losses[-1] < 1e-2


@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
def test_cached_trunk_trains_as_the_whole_network_does(float64, make_model, strained, unfrozen):
    from matmosaic.backbones import make_table

    losses, states = [], []
    for cached in (True, False):
        model, table = make_model(unfrozen)
        if not cached:
            model.depth, table = 0, make_table(model.backbone, strained)
        net = trained(model, table, validation=TARGETS[9:])
        losses.append(np.array(net.history[:, ("train_loss", "valid_loss", "valid_mae")]))
        states.append(net.module_.state_dict())
    np.testing.assert_allclose(*losses, rtol=1e-7)
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)


def test_validation_error_is_in_the_unit_of_the_labels(make_model):
    model, table = make_model("last")
    net = trained(
        model, table, validation=TARGETS[9:], scale=TargetScale(0.0, 10.0), max_epochs=1, batch_size=2
    )
    predicted = net.module_.eval()(table.select([9, 10, 11]))[:, 0].detach().numpy()
    assert net.history[-1, "valid_mae"] == pytest.approx(10 * abs(predicted - TARGETS[9:]).mean(), rel=1e-5)
    assert net.history[-1, "valid_loss"] == pytest.approx(((predicted - TARGETS[9:]) ** 2).mean(), rel=1e-5)


def test_validation_error_is_weighted(make_model):
    model, table = make_model("last")
    held = TableDataset(table, TARGETS[9:], np.array([0.0, 1.0, 3.0]), rows=np.arange(9, 12))
    train = TableDataset(table, TARGETS[:9], rows=np.arange(9))
    net = make_net(
        model,
        held,
        scale=ONE,
        max_epochs=1,
        patience=None,
        batch_size=2,
        learning_rate=0.01,
        backbone_learning_rate=0.01,
    ).fit(train, None)
    predicted = net.module_.eval()(table.select([9, 10, 11]))[:, 0].detach().numpy()
    expected = np.average(abs(predicted - TARGETS[9:]), weights=[0, 1, 3])
    assert net.history[-1, "valid_mae"] == pytest.approx(expected, rel=1e-5)


def test_best_epoch_is_restored_whole(make_model):
    """Backbone, running statistics and head; validation labels that training moves away from."""
    model, table = make_model("last")
    snapshots = Snapshots()
    net = trained(model, table, validation=-TARGETS[9:] * 3, patience=3, max_epochs=40, callbacks=[snapshots])
    errors = net.history[:, "valid_mae"]
    best = int(np.argmin(errors))
    assert best < len(errors) - 1
    assert len(errors) == best + 3 + 1 < 40
    assert set(snapshots.states[best]) == set(net.module_.state_dict())
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, snapshots.states[best][name]), name
    moved = [
        name
        for name in snapshots.states[0]
        if not torch.equal(snapshots.states[-1][name], snapshots.states[best][name])
    ]
    assert {name.split(".")[0] for name in moved} == {"backbone", "head"}
    assert any("running_mean" in name for name in moved)


def test_best_epoch_is_restored_without_patience(make_model):
    model, table = make_model("last")
    snapshots = Snapshots()
    net = trained(model, table, validation=-TARGETS[9:] * 3, max_epochs=10, callbacks=[snapshots])
    errors = net.history[:, "valid_mae"]
    assert len(errors) == 10
    best = snapshots.states[int(np.argmin(errors))]
    assert all(torch.equal(value, best[name]) for name, value in net.module_.state_dict().items())


def test_learning_rates_follow_a_cosine(make_model):
    model, table = make_model("all")
    seen = []

    class Rates(Callback):
        def on_epoch_begin(self, net, **kwargs):
            seen.append([group["lr"] for group in net.optimizer_.param_groups])

    net = trained(model, table, max_epochs=4, callbacks=[Rates()])
    fractions = (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(seen, np.outer(fractions, [0.005, 0.01]), rtol=1e-6)
    backbone, head = net.optimizer_.param_groups
    assert len(backbone["params"]) == len(list(model.backbone.parameters()))
    assert len(head["params"]) == len(list(model.head.parameters()))


def test_frozen_layers_stay(make_model):
    model, table = make_model("last")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model, table)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {".".join(name.split(".")[:3]) for name in moved if name.startswith("backbone")} == {
        "backbone.stages.conv_2"
    }


def test_sampling_follows_the_probabilities(make_model):
    model, table = make_model("head")
    seen = []

    class Targets(Callback):
        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            seen.extend(batch[1][:, 0].tolist() if training else [])

    probabilities = np.zeros(12)
    probabilities[[2, 7]] = 0.5
    trained(model, table, probabilities=probabilities, max_epochs=3, callbacks=[Targets()])
    assert len(seen) == 36
    np.testing.assert_allclose(sorted(set(seen)), TARGETS[[2, 7]], rtol=1e-6)


def test_own_callbacks_and_silence(make_model, capsys):
    model, table = make_model("head")
    snapshots = Snapshots()
    trained(model, table, max_epochs=2, callbacks=[("mine", snapshots)])
    assert len(snapshots.states) == 2
    assert capsys.readouterr() == ("", "")


def test_interrupted_training_restores_the_best_epoch(make_model):
    model, table = make_model("last")
    snapshots = Snapshots()

    class Interrupt(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            if len(net.history) == 6 and training:
                raise KeyboardInterrupt

    net = trained(model, table, validation=-TARGETS[9:] * 3, callbacks=[snapshots, Interrupt()])
    errors = [epoch["valid_mae"] for epoch in net.history if "valid_mae" in epoch]
    best = snapshots.states[int(np.argmin(errors))]
    assert len(errors) == 5
    assert all(torch.equal(value, best[name]) for name, value in net.module_.state_dict().items())


REPEAT = """
import hashlib
import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from matmosaic.backbones import MLP, make_table, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.learning import RegressionModel, TableDataset, TargetScale, make_net
lattices = [Lattice.from_parameters(5, 5.3, 5.7 + 0.01 * i, 81, 88, 97) for i in range(40)]
places = np.random.default_rng(0).random((8, 3))
crystals = [Structure(lattice, ["Na", "Cl"] * 4, places) for lattice in lattices]
def train():
    torch.manual_seed(1)
    backbone = CGCNN(width=32, n_convolutions=2)
    unfreeze(backbone, "all")
    table = make_table(backbone, crystals)
    model = RegressionModel(backbone, MLP(32))
    settings = dict(max_epochs=2, patience=None, batch_size=32, learning_rate=0.01)
    net = make_net(model, None, scale=TargetScale(0.0, 1.0), backbone_learning_rate=0.01, **settings)
    net.fit(TableDataset(table, np.linspace(-1, 1, 40)), None)
    digest = hashlib.sha256()
    for value in net.module_.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()

print(torch.get_num_threads(), train(), train())
"""


def test_training_repeats_bit_for_bit_on_two_threads():
    command = [sys.executable, "-W", "ignore", "-c", REPEAT]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    n_threads, first, second = result.stdout.split()
    assert n_threads == "2"
    assert first == second


def test_training_repeats_bit_for_bit(make_model):
    states = [trained(*make_model("all")).module_.state_dict() for _ in range(2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    other = trained(*make_model("all", seed=1)).module_.state_dict()
    assert not all(torch.equal(value, other[name]) for name, value in states[0].items())
