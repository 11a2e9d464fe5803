"""What TransferRegressor trains, for how long, at which rates, and what it keeps."""

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from matmosaic import GraphSettings, GraphTable, TransferRegressor
from matmosaic.backbones.cgcnn import Embedding

SMALL = {"width": 8, "n_convolutions": 2}


class Recorder(Callback):
    """Keep the learning rates of each epoch."""

    def on_epoch_begin(self, net, **kwargs):
        self.rates_ = [*getattr(self, "rates_", []), [group["lr"] for group in net.optimizer_.param_groups]]


def state(estimator):
    return {key: value.clone() for key, value in estimator.net_.module_.backbone.state_dict().items()}


# --- the constructor ---------------------------------------------------------------------------------


def test_constructor_only_assigns():
    values = {name: object() for name in TransferRegressor().get_params()}
    estimator = TransferRegressor(**values)
    assert vars(estimator).keys() == values.keys()
    assert all(getattr(estimator, name) is value for name, value in values.items())


def test_parameters_are_set_and_cloned(module):
    estimator = TransferRegressor(module).set_params(unfrozen="all", head_widths=(4,))
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.get_params()["unfrozen"] == "all"
    with pytest.raises(ValueError, match="Invalid parameter 'unfreeze'"):
        estimator.set_params(unfreeze="all")


def test_repr_shows_what_was_changed(module, labelled):
    assert repr(TransferRegressor("bundled:emt-eform", max_epochs=5)) == (
        "TransferRegressor(max_epochs=5, module='bundled:emt-eform')"
    )
    assert "PretrainedModule('tiny'" in repr(TransferRegressor(module))
    assert "TransferRegressor" in TransferRegressor(module, max_epochs=1).fit(*labelled)._repr_html_()


# --- what is trained ---------------------------------------------------------------------------------

TRAINED = [
    ("head", ()),
    ("last", ("conv_2",)),
    ("conv_1", ("conv_1",)),
    (["conv_1"], ("conv_1",)),
    (("embedding", "last"), ("embedding", "conv_2")),
    ("all", ("embedding", "conv_1", "conv_2")),
]


@pytest.mark.parametrize(("unfrozen", "stages"), TRAINED, ids=map(str, dict(enumerate(TRAINED))))
def test_only_what_is_unfrozen_changes(unfrozen, stages, make, module, labelled):
    fitted = make(unfrozen=unfrozen, validation_fraction=0).fit(*labelled)
    prefixes = tuple(f"stages.{stage}." for stage in stages)
    before, after = module.build_backbone().state_dict(), state(fitted)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    # Weights and the running statistics of batch normalisation alike; normalisation undoes a change of the
    # gate's bias, which therefore has no gradient.
    assert changed == {key for key in before if key.startswith(prefixes) and not key.endswith("gate.bias")}
    parameters = [name for name, _ in module.build_backbone().named_parameters()]
    assert fitted.unfrozen_ == [name for name in parameters if name.startswith(prefixes)]


def test_head_is_new_and_trained(make, module, labelled):
    untrained = make(max_epochs=0).fit(*labelled).net_.module_.head.state_dict()
    trained = make().fit(*labelled).net_.module_.head.state_dict()
    scale = {"scale.mean", "scale.std"}
    layers = {f"layers.{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    assert untrained.keys() == trained.keys() == scale | layers
    assert not any(torch.equal(untrained[key], trained[key]) for key in layers)


def test_head_sees_standardised_features_of_the_training_rows(make, module, labelled, float64):
    X, y = labelled
    weight = 1.0 + np.arange(40) % 2
    scale = make(unfrozen="head", validation_fraction=0).fit(X, y, weight).net_.module_.head.scale
    features = module.features(X)
    mean = np.average(features, axis=0, weights=weight)
    std = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(scale.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(scale.std, std, rtol=1e-6)


def test_head_of_a_network_from_scratch_sees_features_as_they_are(make, labelled):
    scale = make(module=None, max_epochs=1).fit(*labelled).net_.module_.head.scale
    assert not scale.mean.any()
    assert (scale.std == 1).all()


def test_module_is_not_changed(make, module, labelled):
    before = {key: value.clone() for key, value in module.weights.items()}
    make(unfrozen="all").fit(*labelled)
    assert all(torch.equal(before[key], module.weights[key]) for key in before)


def test_training_from_scratch_trains_everything(labelled):
    fitted = TransferRegressor(backbone_options=SMALL, unfrozen="head", max_epochs=1, random_state=0).fit(
        *labelled
    )
    assert fitted.unfrozen_ == [name for name, _ in fitted.net_.module_.backbone.named_parameters()]
    assert fitted.module_card_ is None


def test_options_and_settings_are_used_from_scratch(labelled):
    X, y = labelled
    settings = GraphSettings(cutoff=6.0, max_neighbors=8)
    fitted = TransferRegressor(backbone_options=SMALL, graph_settings=settings, max_epochs=1).fit(X, y)
    backbone = fitted.net_.module_.backbone
    assert (backbone.graph_settings, backbone.n_features) == (settings, 8)


def test_card_of_the_module_is_kept(make, module, labelled):
    assert make().fit(*labelled).module_card_ == module.card


@pytest.mark.parametrize("unfrozen", ["head", "last"])
def test_trunk_runs_once_per_structure_and_fit(unfrozen, make, labelled, monkeypatch):
    X, y = labelled
    seen = []
    original = Embedding.forward
    monkeypatch.setattr(
        Embedding, "forward", lambda self, graph: seen.append(graph.num_graphs) or original(self, graph)
    )
    fitted = make(unfrozen=unfrozen, max_epochs=6, batch_size=16).fit(X, y)
    assert sum(seen) == len(X)
    fitted.predict(X[:5])
    assert sum(seen) == len(X) + 5


@pytest.mark.parametrize("unfrozen", ["head", "last", "conv_1"])
def test_cached_trunk_trains_as_the_whole_network_does(unfrozen, make, labelled, monkeypatch, float64):
    X, y = labelled
    parameters = {"unfrozen": unfrozen, "max_epochs": 6, "batch_size": 16}
    cached = make(**parameters).fit(X, y)
    monkeypatch.setattr("matmosaic.learning.model.trunk_table", lambda backbone, table, **kwargs: table)
    monkeypatch.setattr("matmosaic.learning.model.trunk_depth", lambda backbone: 0)
    whole = make(**parameters).fit(X, y)
    assert (cached.net_.module_.depth > 0, whole.net_.module_.depth) == (True, 0)
    np.testing.assert_allclose(cached.history_["train_loss"], whole.history_["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(cached.predict(X), whole.predict(X), rtol=1e-5)


@pytest.mark.parametrize("widths", [(), (5,), [6, 5, 4], np.array([3])])
def test_head_has_the_widths_asked_for(widths, make, labelled):
    X, y = labelled
    fitted = make(head_widths=widths).fit(X, y)
    head = fitted.net_.module_.head
    assert head.widths == tuple(widths)
    assert len(head.layers) == len(widths) + 1
    assert fitted.predict(X).shape == (len(X),)


# --- rates and epochs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "backbone_rate"),
    [
        ({}, 0.005),
        ({"backbone_learning_rate": 0.001}, 0.001),
        ({"module": None, "backbone_options": SMALL}, 0.02),
        ({"module": None, "backbone_options": SMALL, "backbone_learning_rate": 0.001}, 0.001),
    ],
)
def test_head_and_backbone_have_rates_of_their_own(parameters, backbone_rate, make, labelled):
    net = make(learning_rate=0.02, **parameters).fit(*labelled).net_
    names = {id(parameter): name for name, parameter in net.module_.named_parameters()}
    rates = {
        names[id(parameter)]: group["initial_lr"]
        for group in net.optimizer_.param_groups
        for parameter in group["params"]
    }
    trained = {name for name, parameter in net.module_.named_parameters() if parameter.requires_grad}
    assert rates.keys() == trained
    assert {rate for name, rate in rates.items() if name.startswith("head.")} == {0.02}
    assert {rate for name, rate in rates.items() if name.startswith("backbone.")} == {backbone_rate}


def test_rates_fall_as_a_cosine(make, labelled):
    recorder = Recorder()
    make(max_epochs=6, callbacks=[recorder]).fit(*labelled)
    factors = [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    np.testing.assert_allclose(
        np.array(recorder.rates_) / recorder.rates_[0], np.outer(factors, [1, 1]), rtol=1e-6
    )


def test_history_has_a_row_per_epoch(make, labelled):
    fitted = make(max_epochs=4).fit(*labelled)
    assert list(fitted.history_) == ["epoch", "train_loss", "valid_loss", "valid_mae", "dur"]
    assert fitted.history_["epoch"].tolist() == [1, 2, 3, 4]
    assert fitted.best_epoch_ == 1 + fitted.history_["valid_mae"].argmin()
    assert fitted.n_train_ == 34


def test_no_epochs_train_nothing(make, module, labelled):
    X, y = labelled
    fitted = make(max_epochs=0).fit(X, y)
    assert all(torch.equal(value, module.weights[f"backbone.{key}"]) for key, value in state(fitted).items())
    assert (len(fitted.history_), fitted.best_epoch_) == (0, 0)
    assert np.isfinite(fitted.predict(X)).all()


def test_best_epoch_is_restored_whole(make, labelled):
    """The restored network has the validation error that the history says is the smallest."""
    X, y = labelled
    X_val, y_val, X, y = X[:10], y[:10], X[10:], y[10:]
    fitted = make(unfrozen="all", max_epochs=12, learning_rate=0.1).fit(X, y, X_val=X_val, y_val=y_val)
    assert fitted.best_epoch_ < 12  # else nothing was restored
    error = np.abs(fitted.predict(X_val) - y_val).mean()
    np.testing.assert_allclose(error, fitted.history_["valid_mae"].min(), rtol=1e-4)


def test_patience_stops_early_without_a_warning(make, labelled):
    X, y = labelled
    fitted = make(max_epochs=200, patience=3, learning_rate=0.1).fit(X, y)
    assert len(fitted.history_) == fitted.best_epoch_ + 3 < 200


def test_without_patience_training_runs_to_the_end(make, labelled):
    assert len(make(max_epochs=30, learning_rate=0.5).fit(*labelled).history_) == 30


def test_without_validation_the_last_epoch_is_kept(make, labelled):
    X, y = labelled
    fitted = make(validation_fraction=0, max_epochs=4, learning_rate=0.3).fit(X, y)
    assert list(fitted.history_) == ["epoch", "train_loss", "dur"]
    assert (fitted.n_train_, fitted.best_epoch_) == (len(X), 4)


def test_given_validation_rows_leave_all_others_for_training(make, labelled):
    X, y = labelled
    fitted = make().fit(X, y, X_val=GraphTable.from_structures(X[:3]), y_val=[1.0, 1.0, 1.0])
    assert fitted.n_train_ == len(X)
    assert "valid_mae" in fitted.history_


def test_labels_are_scaled_on_training_rows_alone(make, labelled):
    X, y = labelled
    fitted = make().fit(X, y, X_val=X[:5], y_val=y[:5] + 1000)
    np.testing.assert_allclose([fitted.scale_.mean, fitted.scale_.std], [y.mean(), y.std()])


def test_labels_of_held_out_rows_do_not_enter_the_scale(make, labelled):
    X, y = labelled
    expected = make(max_epochs=0).fit(X, y).scale_
    without = [
        row for row in range(40) if make(max_epochs=0).fit(X, y + 100 * np.eye(40)[row]).scale_ == expected
    ]
    assert len(without) == 6  # 15 % of 40


@pytest.mark.parametrize("head_widths", [(32, 32), ()])
def test_unit_of_the_labels_does_not_matter(head_widths, make, labelled, float64):
    X, y = labelled
    one = make(head_widths=head_widths).fit(X, y).predict(X)
    other = make(head_widths=head_widths).fit(X, 1e6 * y + 1e7).predict(X)
    np.testing.assert_allclose(other, 1e6 * one + 1e7, rtol=1e-5)


# --- weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False])
def test_rows_of_weight_zero_are_left_out(given, make, labelled, float64):
    X, y = labelled
    kept = np.arange(40) % 4 != 1
    wrong = np.where(kept, y, 1e6)
    validation = {"X_val": X[:6], "y_val": y[:6]} if given else {}
    parameters = {"unfrozen": "all", "batch_size": 4}
    weighted = make(**parameters).fit(X, wrong, kept.astype(float), **validation)
    removed = make(**parameters).fit([x for x, k in zip(X, kept, strict=True) if k], y[kept], **validation)
    assert weighted.n_train_ == removed.n_train_
    assert weighted.scale_ == removed.scale_
    np.testing.assert_allclose(weighted.predict(X), removed.predict(X), rtol=1e-6)


def test_weight_two_is_a_row_given_twice(make, labelled, float64):
    """Exactly so where the head alone is trained on full batches; batch statistics know no weights."""
    X, y = labelled
    twice = np.arange(40) % 3 == 0
    X_more, y_more = [*X, *(X[i] for i in np.flatnonzero(twice))], np.append(y, y[twice])
    parameters = {"unfrozen": "head", "validation_fraction": 0, "max_epochs": 8}
    weighted = make(**parameters).fit(X, y, 1.0 + twice)
    repeated = make(**parameters).fit(X_more, y_more)
    np.testing.assert_allclose(weighted.scale_.std, repeated.scale_.std)
    np.testing.assert_allclose(weighted.history_["train_loss"], repeated.history_["train_loss"], rtol=1e-6)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6)


def test_equal_weights_change_nothing(make, labelled, float64):
    X, y = labelled
    np.testing.assert_allclose(
        make().fit(X, y, np.full(40, 3.0)).predict(X), make().fit(X, y).predict(X), rtol=1e-5
    )


def test_weighted_sampling_draws_rare_labels_more_often(make, labelled, monkeypatch):
    X, _ = labelled
    y = np.where(np.arange(40) < 4, 10.0, 0.0) + np.linspace(0, 0.1, 40)
    drawn = []
    from matmosaic.learning import TableDataset

    original = TableDataset.__getitems__
    monkeypatch.setattr(
        TableDataset, "__getitems__", lambda self, rows: drawn.extend(rows) or original(self, rows)
    )
    make(weighted_sampling=True, validation_fraction=0, max_epochs=25).fit(X, y)
    assert 0.4 < np.mean(np.array(drawn) < 4) < 0.6  # 0.1 without


# --- does it learn? ----------------------------------------------------------------------------------


def test_small_network_can_overfit(labelled):
    X, y = labelled
    estimator = TransferRegressor(
        backbone_options={"width": 16, "n_convolutions": 2},
        max_epochs=150,
        validation_fraction=0,
        random_state=0,
    )
    assert estimator.fit(X[:20], y[:20]).score(X[:20], y[:20]) > 0.95


def test_labels_of_a_module_are_learnt_again_from_its_features(make, labelled):
    X, y = labelled
    assert make(max_epochs=150).fit(X, y).score(X, y) > 0.95
