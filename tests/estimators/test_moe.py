"""What MoERegressor mixes, which experts it chooses, what it trains and keeps, and how it refuses."""

import copy
import pickle
import re
import shutil
import weakref
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from matmosaic import GraphTable
from matmosaic.backbones.cgcnn import CGCNN, Embedding, element_table
from matmosaic.estimators._gating import best, proxy_scores
from matmosaic.estimators._mixing import WARM_UP_EPOCHS
from matmosaic.estimators.moe import MoERegressor
from matmosaic.exceptions import (
    DivergedFitWarning,
    InvalidParameterError,
    MatmosaicError,
    TrunkMemoryWarning,
    UnknownNameError,
    UnsupportedElementError,
    UnusableRowsWarning,
)
from matmosaic.learning import MixtureModel
from matmosaic.learning.net import Net
from matmosaic.modules import PretrainedModule

ALL = ["a", "b", "c"]


@pytest.fixture
def make(make_mixture):
    return make_mixture


@pytest.fixture(scope="module")
def fitted(modules, labelled):
    return MoERegressor([modules[name] for name in ALL], max_epochs=3, random_state=0).fit(*labelled)


@pytest.fixture(scope="session")
def folder(modules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    for name, module in modules.items():
        module.save(folder / name)
    return folder


# --- the constructor and references ------------------------------------------------------------------


def test_constructor_only_assigns():
    values = {name: object() for name in MoERegressor(None).get_params()}
    estimator = MoERegressor(**values)
    assert vars(estimator).keys() == values.keys()
    assert all(getattr(estimator, name) is value for name, value in values.items())


def test_modules_may_be_references_globs_paths_objects_and_mixes(make, modules, folder, labelled, fitted):
    X, y = labelled
    for given in (
        str(folder / "[abc]"),
        [folder / "a", str(folder / "b"), modules["c"]],
        (str(folder / "[ab]"), folder / "c"),
    ):
        other = make(modules=given).fit(X, y)
        assert other.module_names_ == ALL
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))


def test_one_module_by_itself_is_a_mixture_of_one(make, modules, folder, labelled):
    for given in (modules["a"], folder / "a", [modules["a"]]):
        assert make(modules=given).fit(*labelled).gate_scores_.tolist() == [1.0]


def test_store_and_glob(make, labelled):
    fitted = make(modules=["bundled:emt-e*", "bundled:emt-volume"], max_epochs=1).fit(*labelled)
    assert fitted.module_names_ == ["emt-eform", "emt-volume"]
    assert [card.name for card in fitted.module_cards_] == fitted.module_names_


def test_names_that_clash_get_the_start_of_their_checksums(make, modules, labelled):
    renamed = PretrainedModule(replace(modules["b"].card, name="a"), modules["b"].weights)
    fitted = make(modules=[modules["a"], renamed, modules["c"]]).fit(*labelled)
    sha = [str(module.card.sha256)[:8] for module in (modules["a"], renamed)]
    assert fitted.module_names_ == [f"a@{sha[0]}", f"a@{sha[1]}", "c"]
    assert fitted.explain().index.is_unique


# --- the gate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_active", [None, 3, 2, 1])
def test_scores_sum_to_one_and_are_zero_where_not_active(n_active, make, labelled):
    scores = make(n_active=n_active).fit(*labelled).gate_scores_
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert scores.sum() == pytest.approx(1, abs=1e-12)
    assert (scores > 0).sum() == (n_active or 3)


def test_explain_shows_modules_by_weight(make, labelled):
    fitted = make(n_active=2, gate_init=[0.0, 2.0, 1.0]).fit(*labelled)
    table = fitted.explain()
    assert table.index.tolist() == ["b", "c", "a"]
    assert table.index.name == "module"
    assert list(table) == ["gate_score", "active", "target", "unit", "dataset", "license_weights"]
    np.testing.assert_array_equal(table["gate_score"], fitted.gate_scores_[[1, 2, 0]])
    assert table["active"].tolist() == [True, True, False]
    assert table.loc["a"].tolist()[2:] == ["volume", "angstrom^3/atom", "strained", "MIT"]


def test_explain_needs_a_fit(make):
    with pytest.raises(NotFittedError):
        make().explain()


@pytest.mark.parametrize("form", [list, tuple, np.array, pd.Series])
def test_given_scores_choose_and_start(form, make, labelled):
    fitted = make(gate_init=form([0.0, 1.0, 2.0]), n_active=2, max_epochs=0).fit(*labelled)
    expected = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    np.testing.assert_allclose(fitted.gate_scores_, [0.0, *expected], rtol=1e-6)


def test_proxy_keeps_the_modules_whose_neighbours_agree(make, modules, labelled, float64):
    """By hand: the leave-one-out error of neighbours in each module's features."""
    from matmosaic.learning.proxy import knn_proxy

    X, y = labelled
    errors = [np.abs(knn_proxy(modules[name].features(X), y) - y).mean() for name in ALL]
    for n_active in (1, 2):
        scores = make(n_active=n_active, max_epochs=0, validation_fraction=0).fit(X, y).gate_scores_
        assert set(np.flatnonzero(scores)) == set(np.argsort(errors)[:n_active])
        np.testing.assert_allclose(scores[scores > 0], 1 / n_active)


def test_proxy_does_not_see_rows_without_weight(rng):
    rows = namedtuple("rows", "targets")
    targets = torch.tensor(np.stack([rng.normal(size=12), np.r_[np.ones(9), np.zeros(3)]], axis=1))
    features = [torch.tensor(rng.normal(size=(12, 4))) for _ in range(2)]
    expected = proxy_scores([one[:9] for one in features], rows(targets[:9]), names="ab")
    np.testing.assert_allclose(proxy_scores(features, rows(targets), names="ab"), expected)
    assert not np.allclose(proxy_scores(features, rows(targets.clamp(min=1e-3)), names="ab"), expected)


def test_module_whose_features_are_not_finite_is_named(make, modules, labelled):
    weights = dict(modules["b"].weights)
    name = next(key for key in weights if key.endswith("embedding.weight") or "embedding" in key)
    weights[name] = torch.full_like(weights[name], torch.nan)
    card = replace(modules["b"].card, name="broken", sha256=None, golden=[])
    broken = PretrainedModule(card, weights)
    with pytest.raises(InvalidParameterError, match="features of module 'broken' must be finite"):
        make(modules=[modules["a"], broken], n_active=1).fit(*labelled)


def test_warm_up_keeps_what_a_short_dense_training_prefers(make, labelled):
    X, y = labelled
    dense = make(max_epochs=WARM_UP_EPOCHS, validation_fraction=0).fit(X, y)
    options = {"gate_init": "warmup", "max_epochs": WARM_UP_EPOCHS + 1, "validation_fraction": 0}
    sparse = make(n_active=1, **options).fit(X, y)
    assert sparse.gate_scores_.argmax() == dense.gate_scores_.argmax()
    assert len(sparse.history_) == WARM_UP_EPOCHS + 1  # the warm-up is none of it


@pytest.fixture
def steps(monkeypatch):
    """List that grows by the gate's scores before each step of training."""
    seen = []
    original = Net.train_step

    def train_step(self, *args, **kwargs):
        seen.append(self.module_.gate.scores.tolist())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Net, "train_step", train_step)
    return seen


@pytest.mark.parametrize(("max_epochs", "warm_up"), [(0, 0), (2, 2), (WARM_UP_EPOCHS + 2, WARM_UP_EPOCHS)])
def test_warm_up_is_no_longer_than_training(max_epochs, warm_up, make, labelled, steps):
    fitted = make(n_active=2, gate_init="warmup", max_epochs=max_epochs).fit(*labelled)
    assert [len(scores) for scores in steps] == [3] * warm_up + [2] * max_epochs
    if max_epochs == 0:
        assert fitted.gate_scores_.tolist() == [0.5, 0.5, 0]


def test_warm_up_samples_as_training_does(make, labelled, steps):
    X, y = labelled
    options = {"n_active": 1, "gate_init": "warmup", "max_epochs": 2, "batch_size": 8}
    seen = []
    for weighted in (False, True):
        make(weighted_sampling=weighted, **options).fit(X, y)
        seen.append([scores for scores in steps if len(scores) == 3])
        steps.clear()
    assert seen[0][-1] != seen[1][-1]


def test_warm_up_that_diverges_is_an_error_with_epoch_and_remedy(make, labelled):
    message = r"the training loss is not finite after epoch \d of its 3. Lower 'learning_rate' .*'proxy'"
    with pytest.raises(InvalidParameterError, match=message):
        make(n_active=2, gate_init="warmup", learning_rate=1e30).fit(*labelled)


def test_interrupt_in_the_warm_up_ends_fit(make, labelled, monkeypatch):
    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Net, "train_step", interrupt)
    mixture = make(n_active=2, gate_init="warmup")
    with pytest.raises(KeyboardInterrupt):
        mixture.fit(*labelled)
    with pytest.raises(NotFittedError):
        mixture.predict(labelled[0])


def test_uniform_scores_race(make, labelled):
    """As published: all are in the net, and which are active may change from step to step."""
    fitted = make(n_active=1, gate_init="uniform", batch_size=8).fit(*labelled)
    gate = fitted.net_.module_.gate
    assert (len(gate.scores), gate.n_active) == (3, 1)
    assert fitted.gate_scores_[gate.active()[0]] == 1
    assert (make(n_active=1, gate_init="uniform", max_epochs=0).fit(*labelled)).gate_scores_.tolist() == [
        1,
        0,
        0,
    ]


def test_best_are_in_their_own_order_and_the_first_win_a_tie():
    assert best(np.array([1.0, 3.0, 1.0, 2.0]), 3) == [0, 1, 3]
    assert best(np.ones(40), 2) == [0, 1]


def test_absolute_errors_are_less_drawn_to_an_outlier(make, labelled):
    structures, y = labelled
    y = y.copy()
    y[0] += 100 * y.std()
    options = {"max_epochs": 40, "validation_fraction": 0, "gate_penalty": 0.0}
    errors = {
        loss: np.median(np.abs(make(loss=loss, **options).fit(structures, y).predict(structures) - y))
        for loss in ("mse", "l1")
    }
    assert errors["l1"] < errors["mse"]


def test_penalty_favours_few(make, labelled):
    even, sharp = (
        make(gate_penalty=penalty, gate_init=[0.0, 0.0, 1.0], max_epochs=20).fit(*labelled).gate_scores_.max()
        for penalty in (0.0, 100.0)
    )
    assert sharp > even + 0.02


# --- inactive experts cost and change nothing --------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["add", "concat", "ensemble"])
def test_an_inactive_expert_more_changes_no_bit(aggregation, make, labelled):
    X, y = labelled
    options = {"aggregation": aggregation, "batch_size": 8, "unfrozen": "all"}
    two = make(["a", "b"], **options).fit(X, y)
    of_three = make(n_active=2, gate_init=[1.0, 1.0, -9.0], **options).fit(X, y)
    np.testing.assert_array_equal(two.predict(X), of_three.predict(X))
    np.testing.assert_array_equal(two.gate_scores_, of_three.gate_scores_[:2])


def test_a_module_that_the_proxy_leaves_out_changes_no_bit(make, labelled):
    X, y = labelled
    sparse = make(n_active=2).fit(X, y)
    names = [name for name, score in zip(ALL, sparse.gate_scores_, strict=True) if score]
    np.testing.assert_array_equal(make(names).fit(X, y).predict(X), sparse.predict(X))


@pytest.mark.parametrize("gate_init", ["proxy", "warmup", [0.0, 1.0, 2.0]])
def test_only_active_experts_are_kept(gate_init, make, labelled):
    net = make(n_active=2, gate_init=gate_init).fit(*labelled).net_
    assert len(net.module_.experts) == len(net.module_.gate.scores) == 2


@pytest.mark.parametrize("unfrozen", ["head", "last"])
def test_trunks_run_once_per_structure_and_module(unfrozen, make, labelled, monkeypatch):
    X, y = labelled
    seen = []
    original = Embedding.forward
    monkeypatch.setattr(
        Embedding, "forward", lambda self, graph: seen.append(graph.num_graphs) or original(self, graph)
    )
    fitted = make(unfrozen=unfrozen, n_active=2, batch_size=16).fit(X, y)
    assert sum(seen) == 3 * len(X)
    fitted.predict(X[:5])
    assert sum(seen) == 3 * len(X) + 2 * 5


# --- what is trained ---------------------------------------------------------------------------------

TRAINED = [
    ("head", ()),
    ("last", ("conv_2",)),
    (["conv_1"], ("conv_1",)),
    ("all", ("embedding", "conv_1", "conv_2")),
]


@pytest.mark.parametrize(("unfrozen", "stages"), TRAINED, ids=map(str, dict(enumerate(TRAINED))))
def test_only_what_is_unfrozen_changes(unfrozen, stages, make, modules, labelled):
    """Parameters and running statistics alike, in every expert."""
    fitted = make(unfrozen=unfrozen).fit(*labelled)
    prefixes = tuple(f"stages.{stage}." for stage in stages)
    for name, expert in zip(ALL, fitted.net_.module_.experts, strict=True):
        before, after = modules[name].build_backbone().state_dict(), expert.state_dict()
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        # Normalisation undoes a change of the gate's bias, which therefore has no gradient.
        assert changed == {
            key for key in before if key.startswith(prefixes) and not key.endswith("gate.bias")
        }
    names = [name for name, _ in modules["a"].build_backbone().named_parameters()]
    assert fitted.unfrozen_ == [name for name in names if name.startswith(prefixes)]


def test_modules_are_not_changed(make, modules, labelled):
    before = {key: value.clone() for key, value in modules["a"].weights.items()}
    make(unfrozen="all").fit(*labelled)
    assert all(torch.equal(before[key], modules["a"].weights[key]) for key in before)


@pytest.mark.parametrize(("given", "rate"), [(None, 0.005), (0.001, 0.001)])
def test_gate_and_head_and_experts_have_rates_of_their_own(given, rate, make, labelled):
    net = make(learning_rate=0.02, backbone_learning_rate=given).fit(*labelled).net_
    names = {id(parameter): name for name, parameter in net.module_.named_parameters()}
    rates = {
        names[id(one)]: group["initial_lr"]
        for group in net.optimizer_.param_groups
        for one in group["params"]
    }
    assert {value for name, value in rates.items() if name.startswith("experts.")} == {rate}
    assert {value for name, value in rates.items() if not name.startswith("experts.")} == {0.02}
    assert "gate.scores" in rates


@pytest.mark.parametrize(
    ("names", "parameters"),
    [
        (["a", "wide"], {"aggregation": "concat"}),
        (["a", "wide"], {"aggregation": "ensemble"}),
        (["a", "wide"], {}),
        (["a", "wide"], {"width": 4}),
        (ALL, {"width": 4}),
        (["a", "wide", "b"], {"width": 4, "n_active": 2}),
        (ALL, {"standardize": False}),
        (ALL, {"head_widths": ()}),
    ],
    ids=str,
)
def test_variants_learn(names, parameters, make, labelled):
    X, y = labelled
    fitted = make(names, max_epochs=40, validation_fraction=0, **parameters).fit(X, y)
    losses = fitted.history_["train_loss"]
    assert losses.iloc[-1] < 0.3 * losses[0]
    assert np.isfinite(fitted.predict(X)).all()


def test_heads_see_standardised_features_of_the_training_rows(make, modules, labelled, float64):
    X, y = labelled
    weight = 1.0 + np.arange(40) % 2
    fitted = make(unfrozen="head", validation_fraction=0).fit(X, y, weight)
    features = modules["b"].features(X)
    mean = np.average(features, axis=0, weights=weight)
    scale = fitted.net_.module_.aggregation.scales[1]
    np.testing.assert_allclose(scale.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(
        scale.std, np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weight)), rtol=1e-6
    )
    plain = make(standardize=False).fit(X, y).net_.module_.aggregation
    assert all((one.std == 1).all() and not one.mean.any() for one in plain.scales)


def test_history_and_best_epoch(make, labelled):
    X, y = labelled
    split = {"X_val": X[:10], "y_val": y[:10]}
    fitted = make(unfrozen="all", max_epochs=12, learning_rate=0.1).fit(X[10:], y[10:], **split)
    assert list(fitted.history_) == ["epoch", "train_loss", "valid_loss", "valid_mae", "dur"]
    assert fitted.best_epoch_ == 1 + fitted.history_["valid_mae"].argmin() < 12  # else nothing was restored
    error = np.abs(fitted.predict(X[:10]) - y[:10]).mean()
    np.testing.assert_allclose(error, fitted.history_["valid_mae"].min(), rtol=1e-4)
    assert fitted.n_train_ == 30


def test_weight_of_zero_leaves_a_row_out(make, labelled):
    X, y = labelled
    weight = (np.arange(40) % 2).astype(float)
    options = {"n_active": 2, "unfrozen": "head", "validation_fraction": 0}
    weighted = make(**options).fit(X, y, weight)
    half = make(**options).fit(X[1::2], y[1::2])
    np.testing.assert_allclose(weighted.predict(X), half.predict(X), rtol=1e-4)
    np.testing.assert_allclose(weighted.gate_scores_, half.gate_scores_, rtol=1e-4)


def test_cached_trunks_train_as_whole_networks_do(make, labelled, monkeypatch, float64):
    X, y = labelled
    cached = make(max_epochs=6, batch_size=16).fit(X, y)
    monkeypatch.setattr("matmosaic.learning.mixture.MixtureModel.run_trunk", lambda self, table, **_: table)
    whole = make(max_epochs=6, batch_size=16).fit(X, y)
    np.testing.assert_allclose(cached.history_["train_loss"], whole.history_["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(cached.predict(X), whole.predict(X), rtol=1e-5)


# --- input, repeatability, tools ---------------------------------------------------------------------


def test_table_of_graphs_as_input(make, labelled, fitted):
    X, y = labelled
    table = GraphTable.from_structures(X)
    np.testing.assert_array_equal(make().fit(table, y).predict(table), fitted.predict(X))


def test_unit_of_the_labels_does_not_matter(make, labelled, float64):
    X, y = labelled
    one, other = make(n_active=2).fit(X, y), make(n_active=2).fit(X, 1e6 * y + 1e7)
    np.testing.assert_allclose(other.predict(X), 1e6 * one.predict(X) + 1e7, rtol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_active": 2, "gate_init": "warmup"},
        {"unfrozen": "all", "aggregation": "ensemble", "guard": "report"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.NegativeTransferWarning")
def test_same_seed_gives_the_same_bits(parameters, make, labelled):
    X, y = labelled
    options = {"batch_size": 16, "weighted_sampling": True, **parameters}
    first, second = (make(**options).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    np.testing.assert_array_equal(first.gate_scores_, second.gate_scores_)
    other = make(**options, random_state=1).fit(X, y)
    assert not np.array_equal(other.predict(X), first.predict(X))


def test_threads_do_not_change_the_numbers(make, labelled, fitted):
    X, y = labelled
    torch.set_num_threads(2)
    try:
        other = make().fit(X, y)
        np.testing.assert_allclose(other.predict(X), fitted.predict(X), rtol=1e-3)
        np.testing.assert_array_equal(make().fit(X, y).predict(X), other.predict(X))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_fit_leaves_random_numbers_alone(make, labelled):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make(n_active=2, gate_init="warmup", device="cpu").fit(*labelled)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_fit_on_the_cpu_seeds_no_other_device(make, labelled, monkeypatch):
    def seed(number):
        raise AssertionError("torch.manual_seed seeds all devices")

    monkeypatch.setattr(torch, "manual_seed", seed)
    make(n_active=2, device="cpu").fit(*labelled)


def test_clones_hold_the_same_modules_and_scores(make, modules):
    regressor = clone(make(gate_init=np.ones(3)))
    assert regressor.modules == [modules[name] for name in ALL]
    assert regressor.gate_init.tolist() == [1, 1, 1]
    assert not hasattr(regressor, "net_")


def test_grid_search(make, modules, labelled):
    X, y = labelled
    grid = {"n_active": [1, None], "modules": ["bundled:emt-e*", modules["b"], [modules["a"], modules["c"]]]}
    search = GridSearchCV(make(max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    expected = make(**search.best_params_, max_epochs=1).fit(X, y)
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))


def test_cross_validation_and_pipelines(make, labelled, fitted):
    X, y = labelled
    scores = cross_val_score(make(n_active=2), X, y, cv=2)
    assert scores[1] == make(n_active=2).fit(X[:20], y[:20]).score(X[20:], y[20:])
    piped = make_pipeline("passthrough", make()).fit(X, y)
    np.testing.assert_array_equal(piped.predict(X), fitted.predict(X))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.NegativeTransferWarning")
def test_fitted_mixtures_are_copied(copied, make, labelled):
    X, y = labelled
    for options in ({"n_active": 2, "trunk_memory": 0}, {"guard": "fallback"}, {"guard": "report"}):
        fitted = make(**options).fit(X, y)
        assert "_modules" not in vars(fitted)
        other = copied(fitted)
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
        pd.testing.assert_frame_equal(other.explain(), fitted.explain())


class CountAlive(Callback):
    """Count, when training begins, which of some tensors are still held."""

    def __init__(self, references):
        self.references = references

    def on_train_begin(self, net, **kwargs):
        self.alive_ = [reference() is not None for reference in self.references]


@pytest.mark.parametrize("gate_init", ["warmup", [0.0, 1.0, 0.5]], ids=str)
@pytest.mark.parametrize("trunk_memory", [0, 2**30])
def test_outputs_of_modules_left_out_are_freed_before_training(
    gate_init, trunk_memory, make, labelled, monkeypatch
):
    X, y = labelled
    references = []
    original = MixtureModel.run_trunk

    def run_trunk(self, *args, **kwargs):
        table = original(self, *args, **kwargs)
        references.extend(weakref.ref(one.fields["x"]) for one in table.inputs)
        return table

    monkeypatch.setattr(MixtureModel, "run_trunk", run_trunk)
    count = CountAlive(references)
    options = {"n_active": 1, "gate_init": gate_init, "trunk_memory": trunk_memory, "guard": "fallback"}
    mixture = make(**options, callbacks=[count]).fit(X[10:], y[10:], X_val=X[:10], y_val=y[:10])
    assert count.alive_ == [*(mixture.gate_scores_ > 0)] * 2


def test_trunk_memory_changes_no_number(make, labelled, fitted):
    X, y = labelled
    np.testing.assert_array_equal(make(trunk_memory=0).fit(X, y).predict(X), fitted.predict(X))


def test_memory_that_does_not_suffice_costs_time_alone(make, labelled, fitted, monkeypatch):
    X, y = labelled
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    with pytest.warns(TrunkMemoryWarning, match=r"of \['a', 'b', 'c'\] .* run anew in each step") as caught:
        slow = make(trunk_memory=0).fit(X, y)
    assert [one.filename for one in caught] == [__file__]
    np.testing.assert_allclose(slow.predict(X), fitted.predict(X), rtol=1e-4)


# --- bad input ---------------------------------------------------------------------------------------

REFUSED = [
    ({"modules": []}, "'modules' must name at least one module or featurizer: a reference such as"),
    ({"modules": 3}, "'modules' must name at least one module"),
    (
        {"modules": [3]},
        "'modules' must be a reference such as 'bundled:*', a module, a featurizer, or a list of",
    ),
    ({"n_active": 0}, "'n_active' must be an int >= 1, or None for all modules. Got 0."),
    ({"n_active": 4}, "'n_active' must be at most the number of modules, 3, or None for all. Got 4"),
    ({"gate_init": "prxy"}, "Unknown value of 'gate_init' 'prxy'. Did you mean 'proxy'?"),
    ({"gate_init": [1.0, 2.0]}, "a finite score for each of the 3 modules. Got [1.0, 2.0]."),
    ({"gate_init": [1.0, 2.0, np.nan]}, "a finite score for each of the 3 modules"),
    ({"gate_init": ["a", "b", "c"]}, "a finite score for each of the 3 modules. Got ['a', 'b', 'c']"),
    ({"gate_init": None}, "a finite score for each of the 3 modules. Got None."),
    ({"aggregation": "concta"}, "Unknown value of 'aggregation' 'concta'. Did you mean 'concat'?"),
    ({"guard": "report", "validation_fraction": 0}, "guard='report' compares on validation rows, but there"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_impossible_parameters_are_refused_before_graphs_are_built(
    parameters, message, make, labelled, built
):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        make(**parameters).fit(*labelled)
    assert built == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bundled:zzz*", "Unknown module 'bundled:zzz*'. Valid: 'bundled:emt-"),
        ("bundld:*", "Unknown store 'bundld'. Did you mean 'bundled'?"),
        (["bundled:emt-eform", "bundled:emt-volum"], "Did you mean"),
        ("no/such/*", "No module matches"),
    ],
)
def test_references_that_match_nothing_are_named(given, message, make, labelled):
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        make(modules=given).fit(*labelled)


def test_empty_reference_is_refused(make, labelled, folder, monkeypatch):
    monkeypatch.chdir(folder)  # It must not stand for the modules that lie here.
    with pytest.raises(InvalidParameterError, match="'modules' must be a reference .* Got ''"):
        make(modules="").fit(*labelled)


def test_duplicates_are_named(make, modules, folder, labelled):
    with pytest.raises(
        InvalidParameterError, match=re.escape("several times: ['a', 'a']. Remove what overlaps")
    ):
        make(modules=[modules["a"], modules["b"], folder / "a"]).fit(*labelled)


def test_unknown_layer_group_gets_a_guess(make, labelled):
    with pytest.raises(UnknownNameError, match="Did you mean 'last'?"):
        make(unfrozen="lst").fit(*labelled)


@pytest.fixture
def wide_knows_no_caesium(monkeypatch):
    known = frozenset(map(int, element_table()["elements"]))
    monkeypatch.setattr(CGCNN, "elements", lambda self: known - {55} if self.width == 6 else known)


@pytest.mark.usefixtures("wide_knows_no_caesium")
def test_element_that_one_module_does_not_know_is_named_with_module_and_rows(make, labelled):
    X, y = labelled
    message = (
        "X[2], X[6], X[10], X[14], X[18], X[22], X[26], X[30], X[34], X[38] (10 rows) hold elements that "
    )
    with pytest.raises(
        UnsupportedElementError, match=re.escape(f"{message}module 'wide'") + r".*\[55\].*leave out"
    ):
        make(["a", "wide"], width=4).fit(X, y)


class Vanish(Callback):
    """Remove a folder when training begins."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_begin(self, net, **kwargs):
        shutil.rmtree(self.folder)


def test_store_that_vanishes_during_fit_does_no_harm(make, modules, labelled, tmp_path):
    X, y = labelled
    modules["a"].save(tmp_path / "store" / "a")
    modules["b"].save(tmp_path / "store" / "b")
    options = {"modules": str(tmp_path / "store" / "*"), "guard": "fallback", "n_active": 1}
    expected = make(**options).fit(X, y)
    fitted = make(**options, callbacks=[Vanish(tmp_path / "store")]).fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))
    with pytest.raises(UnknownNameError, match="No module matches"):
        clone(fitted).fit(X, y)


def test_store_that_vanished_before_leaves_no_half_fitted_mixture(make, modules, labelled, tmp_path):
    X, y = labelled
    modules["a"].save(tmp_path / "a")
    fitted = make(modules=tmp_path / "a").fit(X, y)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(MatmosaicError, match="There is no module at"):
        fitted.fit(X, y)


def test_loss_that_is_not_finite_is_told_with_epoch_and_cause(make, labelled):
    with pytest.warns(
        DivergedFitWarning,
        match=r"not finite in epoch \d, .* Lower 'learning_rate' \(now 1e\+30\)",
    ):
        make(learning_rate=1e30).fit(*labelled)


def test_unusable_rows_are_nan_on_request(make, labelled):
    X, y = labelled
    fitted = make().fit(X, y)
    foreign = Structure(X[0].lattice, ["Lr"], [[0, 0, 0]])
    with pytest.warns(UnusableRowsWarning, match=r"2 of 4 rows cannot be used and are NaN: X\[1\], X\[2\]"):
        got = fitted.predict([X[0], "no structure", foreign, X[1]], on_error="nan")
    np.testing.assert_array_equal(np.isnan(got), [False, True, True, False])
    with pytest.raises(UnsupportedElementError, match=r"X\[1\].*module 'a'"):
        fitted.predict([X[0], foreign])


@pytest.mark.usefixtures("wide_knows_no_caesium")
def test_rows_that_the_answer_cannot_use_are_nan_too(make, labelled):
    """An inactive module counts where ridge on all modules' features predicts, and there alone."""
    X, y = labelled
    salt = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rows = [row for row in range(40) if row % 4 != 2]
    options = {"n_active": 1, "gate_init": [1.0, 0.0], "width": 4}
    X, y = [X[row] for row in rows], y[rows]
    fallback = make(["a", "wide"], guard="fallback", **options).fit(X, y)
    assert fallback.answer_ == "ridge"
    with pytest.warns(UnusableRowsWarning, match="1 of 2 rows"):
        assert np.isnan(fallback.predict([salt, X[0]], on_error="nan")).tolist() == [True, False]
    mixture = make(["a", "wide"], **options).fit(X, y)
    assert np.isfinite(mixture.predict([salt, X[0]], on_error="nan")).all()
