"""ComposedRegressor: its weights, what is averaged, and that it behaves as the other estimators."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import matmosaic
from matmosaic import ComposedRegressor, GraphTable, MPTRegressor, PretrainedModule, TransferRegressor
from matmosaic.estimators import load_estimator
from matmosaic.exceptions import (
    ArchitectureMismatchError,
    InvalidParameterError,
    InvalidTargetsError,
    ModuleFormatError,
    NegativeTransferWarning,
    SolverWarning,
    UnknownNameError,
)
from matmosaic.learning.composition import SOLVERS
from matmosaic.learning.merging import merge_modules
from matmosaic.learning.proxy import knn_proxy

NAMES = ["a", "b", "c", "d"]
UNIT = "angstrom^3/atom"


@pytest.fixture(scope="module")
def hub(module, labelled):
    """Four modules that were fine-tuned from one base on different labels, one of them without a licence."""
    X, volume = labelled
    labels = {
        "a": volume,
        "b": [one.density for one in X],
        "c": [one.lattice.a for one in X],
        "d": [len(one) for one in X],
    }
    licenses = {"a": "MIT", "b": "CC-BY-NC-4.0", "c": "MIT", "d": None}

    def train(name, y):
        start = TransferRegressor(module, unfrozen="all", max_epochs=5, random_state=0)
        about = {"target": f"target {name}", "unit": UNIT, "license_weights": licenses[name]}
        return start.fit(X, np.array(y)).to_module(name=name, **about)

    return [train(name, y) for name, y in labels.items()]


@pytest.fixture(scope="module")
def y(labelled):
    """Labels that no module was trained on, and of which several know something."""
    return np.array([one.density / one.lattice.a for one in labelled[0]])


@pytest.fixture
def make(hub):
    """Function that makes a quick, reproducible regressor of given parameters."""

    def make(modules=None, **parameters):
        own = {"max_epochs": 3, "random_state": 0, "device": "cpu", **parameters}
        return ComposedRegressor(hub if modules is None else modules, **own)

    return make


@pytest.fixture
def X(labelled):
    return labelled[0]


@pytest.fixture(params=["parameters", "features"])
def combine(request):
    return request.param


# --- weights -----------------------------------------------------------------------------------------


def proxies(hub, X, y, **options):
    return np.array([knn_proxy(one.features(X), y, name=one.card.name, **options) for one in hub])


def test_public_name():
    assert matmosaic.ComposedRegressor is ComposedRegressor


def test_modules_name_the_weights_they_came_from(hub, module):
    assert {one.card.base for one in hub} == {module.card.sha256}


def test_weights_are_those_of_an_independent_program(make, hub, X, y):
    model = make(validation_fraction=0, max_epochs=0).fit(X, y)
    predicted = proxies(hub, X, y)
    heavy = 1e6  # an equation that the weights have sum 1, in a least-squares problem of positive weights
    rows = np.vstack([predicted.T - y[:, None], np.full(len(hub), heavy)])
    expected = nnls(rows, np.append(np.zeros(len(y)), heavy))[0]
    squares = [np.mean((weights @ predicted - y) ** 2) for weights in (model.weights_, expected)]
    assert squares[0] == pytest.approx(squares[1], rel=1e-6)
    assert model.proxy_error_ == pytest.approx(squares[0] ** 0.5, rel=1e-6)
    errors = np.sqrt(((predicted - y) ** 2).mean(axis=1))
    np.testing.assert_allclose(model.proxy_errors_, errors, rtol=1e-4)
    assert model.proxy_error_ <= model.proxy_errors_.min()
    assert model.mean_error_ == pytest.approx(np.std(y) * 40 / 39, rel=1e-5)
    assert model.module_names_ == NAMES
    assert model.weights_.sum() == pytest.approx(1)


def test_validation_rows_have_no_part_in_the_weights(make, X, y):
    rows = np.arange(0, 40, 2)
    other = np.arange(1, 40, 2)
    part = [X[row] for row in rows]
    alone = make(validation_fraction=0).fit(part, y[rows])
    watched = make().fit(part, y[rows], X_val=[X[row] for row in other], y_val=100 * y[other])
    np.testing.assert_array_equal(watched.weights_, alone.weights_)
    held = make(validation_fraction=0.5).fit(X, y)
    assert held.n_train_ == 20
    assert held.proxy_error_ != make(validation_fraction=0).fit(X, y).proxy_error_


def test_rows_of_weight_zero_are_absent(make, X, y, combine):
    weight = np.tile([1.0, 2.0, 0.0, 1.0], 10)
    used = np.flatnonzero(weight)
    options = {"combine": combine, "validation_fraction": 0}
    weighted = make(**options).fit(X, y, sample_weight=weight)
    alone = make(**options).fit([X[row] for row in used], y[used], sample_weight=weight[used])
    np.testing.assert_allclose(weighted.weights_, alone.weights_, atol=1e-7)
    np.testing.assert_allclose(weighted.predict(X), alone.predict(X), rtol=1e-5)


def test_options_of_the_proxy_count(make, hub, X, y):
    model = make(n_neighbors=2, temperature=0.05, validation_fraction=0, max_epochs=0).fit(X, y)
    predicted = proxies(hub, X, y, n_neighbors=2, temperature=0.05)
    errors = np.sqrt(((predicted - y) ** 2).mean(axis=1))
    np.testing.assert_allclose(model.proxy_errors_, errors, rtol=1e-4)


def test_ablations_of_the_paper(make, X, y):
    def fit(**parameters):  # On all rows, whatever the seed.
        return make(max_epochs=0, validation_fraction=0, **parameters).fit(X, y)

    best = fit()
    chosen = best.weights_ > 0
    assert 1 < chosen.sum() < 4
    selected = fit(weighting="selected-average")
    np.testing.assert_allclose(selected.weights_, chosen / chosen.sum())
    every = fit(weighting="all-average", max_modules=1)
    np.testing.assert_allclose(every.weights_, 0.25)
    assert best.proxy_error_ <= min(selected.proxy_error_, every.proxy_error_)
    drawn = [fit(weighting="random", random_state=seed).weights_ for seed in range(6)]
    assert {tuple(sorted(one)) for one in drawn} == {tuple(sorted(selected.weights_))}
    assert len({tuple(one) for one in drawn}) > 1


def test_few_modules(make, X, y):
    (one,) = np.flatnonzero(make(max_epochs=0, max_modules=1).fit(X, y).weights_)
    model = make(max_epochs=0).fit(X, y)
    assert model.weights_[one] > 0
    heavy = make(max_epochs=0, min_weight=0.5).fit(X, y)
    assert heavy.weights_[heavy.weights_ > 0].min() >= 0.5
    assert heavy.proxy_error_ >= model.proxy_error_


def test_modules_worse_than_the_mean_are_said(make, X, rng):
    noise = rng.normal(size=40)
    with pytest.warns(
        NegativeTransferWarning, match=r"none of the 4 modules .* the mean has an error of \d.*Transfer"
    ) as caught:
        make(max_epochs=0).fit(X, noise)
    assert caught[0].filename == __file__


def test_useful_modules_are_not_warned_of(make, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(max_epochs=0).fit(X, y)


# --- what is averaged --------------------------------------------------------------------------------


def test_network_starts_from_the_mean_of_parameters(make, hub, X, y):
    model = make(max_epochs=0).fit(X, y)
    mean = merge_modules(hub, model.weights_, names=NAMES)
    state = model.net_.module_.backbone.state_dict()
    for name, values in mean.build_backbone().named_parameters():
        torch.testing.assert_close(state[name], values)
    assert any(
        not torch.allclose(state[name], values)
        for name, values in mean.build_backbone().named_buffers()
        if "running" in name
    )
    assert model.composed_card_.sources == mean.card.sources
    assert model.composed_card_.sha256 != mean.card.sha256  # of other statistics


def test_one_module_is_fine_tuned_as_by_transfer(make, hub, X, y):
    composed = make(hub[:1]).fit(X, y)
    transferred = TransferRegressor(hub[0], max_epochs=3, random_state=0, device="cpu").fit(X, y)
    np.testing.assert_allclose(composed.predict(X), transferred.predict(X), rtol=1e-5)


def test_licence_is_the_most_restrictive_of_those_that_count(make, hub, X, y):
    model = make(hub[:3], weighting="all-average").fit(X, y)
    assert model.composed_card_.license_weights == "CC-BY-NC-4.0"
    about = {"name": "mine", "target": "mass", "unit": "u"}
    module = model.to_module(**about)
    assert module.card.license_weights == "CC-BY-NC-4.0"
    assert [one["name"] for one in module.card.sources] == ["a", "b", "c"]
    assert model.to_module(**about, license_weights="MIT").card.license_weights == "MIT"
    assert make(hub, weighting="all-average").fit(X, y).composed_card_.license_weights is None


def test_exported_module_predicts_the_same(make, X, y, tmp_path):
    model = make().fit(X, pd.Series(y, name="mass"))
    model.to_module(name="mine", target="y", unit="u").save(tmp_path / "mine")
    module = PretrainedModule.load(tmp_path / "mine")
    np.testing.assert_allclose(module.predict(X), model.predict(X), rtol=1e-5)
    assert module.card.target == "mass"
    assert module.card.base == model.composed_card_.sha256


def test_features_mix_with_weights_that_stay(make, X, y):
    model = make(combine="features").fit(X, y)
    used = model.weights_ > 0
    gate = model.net_.module_.gate
    np.testing.assert_allclose(gate.all_weights(), model.weights_[used], rtol=1e-5)
    assert not gate.scores.requires_grad
    assert model.net_.module_.names == [name for name, use in zip(NAMES, used, strict=True) if use]
    assert model.composed_card_ is None
    assert any("last" in name or "conv" in name for name in model.unfrozen_)
    with pytest.raises(InvalidParameterError, match="combine='features' gives several networks"):
        model.to_module(name="mine", target="mass", unit="u")


def test_features_of_any_modules_are_mixed(make, hub, modules, X, y):
    strangers = [hub[0], modules["b"], modules["wide"]]
    model = make(strangers, combine="features", weighting="all-average").fit(X, y)
    assert type(model.net_.module_.aggregation).__name__ == "ConcatFeatures"
    assert np.isfinite(model.predict(X)).all()
    assert make(strangers[:2], combine="features").fit(X, y).weights_.shape == (2,)


def test_modules_of_two_bases_cannot_be_averaged(make, hub, modules, X, y, built):
    message = r"(?s)- base: .{8} \(a\); none, .{8} itself \(b\).*combine='features'"
    with pytest.raises(ArchitectureMismatchError, match=message):
        make([hub[0], modules["b"]]).fit(X, y)
    with pytest.raises(ArchitectureMismatchError, match=r'- backbone_options: .*"width": 6.* \(wide\)'):
        make([hub[0], modules["wide"]]).fit(X, y)
    assert not built  # Before any graph.


def test_adapters_are_averaged(module, labelled, make, X, y):
    X, volume = labelled
    start = TransferRegressor(module, unfrozen="adapters", max_epochs=5, random_state=0)
    hub = [
        start.fit(X, values).to_module(name=name, target="t", unit="u")
        for name, values in {"a": volume, "b": -(volume**2)}.items()
    ]
    model = make(hub, unfrozen="adapters", weighting="all-average").fit(X, y)
    assert model.composed_card_.kind == "adapter"
    state = model.net_.module_.backbone.state_dict()
    for name, values in module.build_backbone().state_dict().items():
        assert torch.equal(state[f"base.{name}"], values)
    exported = model.to_module(name="mine", target="t", unit="u")
    assert (exported.card.kind, exported.card.base) == ("adapter", module.card.sha256)
    np.testing.assert_allclose(exported.predict(X), model.predict(X), rtol=1e-5)


def test_adapters_are_inserted_into_the_mean(make, X, y):
    model = make(unfrozen="adapters").fit(X, y)
    assert all(name.startswith("adapters.") for name in model.unfrozen_)


def test_adapters_of_a_mean_are_exported_with_it(make, X, y, tmp_path):
    """The mean is in no store, so that adapters alone would be of use to nobody."""
    fitted = make(unfrozen="adapters").fit(X, y)
    fitted.save(tmp_path / "model")
    about = {"name": "mine", "target": "t", "unit": "u"}
    for model in (fitted, load_estimator(tmp_path / "model")):
        model.to_module(**about).save(tmp_path / "mine", overwrite=True)
        whole = PretrainedModule.load(tmp_path / "mine")
        assert (whole.card.kind, whole.card.adapter) == ("full", {"reduction": 2})
        np.testing.assert_allclose(whole.predict(X), fitted.predict(X), rtol=1e-5)
        with pytest.raises(InvalidParameterError, match="the mean of the modules, which is in no store; use"):
            model.to_module(**about, kind="adapter")
        with pytest.raises(InvalidParameterError, match="Did you mean 'adapter'"):
            model.to_module(**about, kind="adapters")


def test_failed_fit_leaves_no_modules(make, X, y):
    model = make()
    with pytest.raises(InvalidTargetsError):
        model.fit(X, y[:-1])
    assert not any(
        "PretrainedModule" in repr(value) for name, value in vars(model).items() if name != "modules"
    )


def test_adapters_cannot_be_inserted_into_a_mixture(make, X, y):
    with pytest.raises(InvalidParameterError, match=r"combine='features'\) inserts no adapters.*modules of"):
        make(combine="features", unfrozen="adapters").fit(X, y)


def test_failure_of_a_solver_points_to_the_call_of_fit(make, X, y, monkeypatch):
    monkeypatch.setitem(SOLVERS, "CLARABEL", {"max_iter": 1})
    with pytest.warns(SolverWarning, match="found by OSQP, as CLARABEL failed .* to the precision") as caught:
        make(max_epochs=0).fit(X, y)
    assert caught[0].filename == __file__


# --- as an estimator ---------------------------------------------------------------------------------


def test_it_learns(make, X, y, combine):
    model = make(combine=combine, max_epochs=60).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.history_["valid_mae"].min() < model.history_["valid_mae"].iloc[0]
    assert list(model.explain().columns[:2]) == ["weight", "proxy_error"]
    assert model.explain()["weight"].is_monotonic_decreasing


def test_same_seed_same_bits(make, X, y, combine):
    state = torch.get_rng_state()
    first, second = (make(combine=combine, weighting="random").fit(X, y).predict(X) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_pickle_and_saved_files_predict_the_same(make, X, y, combine, tmp_path):
    model = make(combine=combine).fit(X, y)
    expected = model.predict(X)
    model.save(tmp_path / "model", target="mass", unit="u")
    loaded = load_estimator(tmp_path / "model")
    assert isinstance(loaded, ComposedRegressor)
    for other in (pickle.loads(pickle.dumps(model)), loaded):
        np.testing.assert_allclose(other.predict(X), expected, rtol=1e-6)
        np.testing.assert_array_equal(other.weights_, model.weights_)
        np.testing.assert_array_equal(other.proxy_errors_, model.proxy_errors_)
        assert other.proxy_error_ == model.proxy_error_
        assert other.mean_error_ == model.mean_error_
        assert other.module_names_ == NAMES
        assert other.module_cards_ == model.module_cards_
        assert other.composed_card_ == model.composed_card_
        assert other.n_train_ == model.n_train_
    np.testing.assert_allclose(loaded.fit(X, y).predict(X), expected, rtol=1e-6)
    loaded.save(tmp_path / "again", target="mass", unit="u")


def test_changed_after_the_fit_it_is_saved_as_it_was_fitted(make, X, y, tmp_path):
    model = make(combine="features").fit(X, y).set_params(combine="parameters")
    model.save(tmp_path / "model")
    np.testing.assert_allclose(ComposedRegressor.load(tmp_path / "model").predict(X), model.predict(X))


def test_damaged_files_are_refused(make, X, y, combine, tmp_path):
    make(combine=combine).fit(X, y).save(tmp_path / "model")
    path = tmp_path / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModuleFormatError, match="truncated or altered"):
        load_estimator(tmp_path / "model")


def test_table_of_graphs_as_structures(make, hub, X, y, combine):
    table = GraphTable.from_structures(X, hub[0].build_backbone(), compressed=True)
    model = make(combine=combine)
    expected = clone(model).fit(X, y).predict(X)
    np.testing.assert_allclose(model.fit(table, y).predict(table), expected, rtol=1e-5)


def test_works_in_cross_validation(make, X, y):
    assert np.isfinite(cross_val_score(make(), X, y, cv=2)).all()


def test_another_module_changes_no_module_given(make, hub, X, y):
    before = {name: values.clone() for name, values in hub[0].weights.items()}
    make().fit(X, y)
    assert all(torch.equal(values, before[name]) for name, values in hub[0].weights.items())


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"weighting": "optimized"}, InvalidParameterError, "Did you mean 'optimised'?"),
        ({"combine": "feature"}, InvalidParameterError, "Did you mean 'features'?"),
        ({"max_modules": 0}, InvalidParameterError, "'max_modules' must be an int >= 1"),
        ({"min_weight": 1.5}, InvalidParameterError, "'min_weight' must be a number from 0 to 1. Got 1.5"),
        ({"n_neighbors": 0}, InvalidParameterError, "'n_neighbors' must be an int >= 1"),
        ({"temperature": 0}, InvalidParameterError, "'temperature' must be a finite number > 0"),
        ({"unfrozen": "lst"}, UnknownNameError, "Did you mean 'last'?"),
        ({"unfrozen": "lst", "combine": "features"}, UnknownNameError, "Did you mean 'last'?"),
        ({"modules": []}, InvalidParameterError, "'modules' must name at least one module"),
        ({"modules": "bundled:none-*"}, UnknownNameError, "Unknown module 'bundled:none-*'"),
    ],
    ids=str,
)
def test_bad_parameters(make, X, y, built, parameters, error, message):
    with pytest.raises(error) as caught:
        make(**parameters).fit(X, y)
    assert message in str(caught.value)
    assert not built


def test_same_module_twice(make, hub, X, y):
    with pytest.raises(InvalidParameterError, match="must hold each module and each featurizer once"):
        make([hub[0], *hub]).fit(X, y)


def test_several_properties_are_refused(make, X, y):
    with pytest.raises(matmosaic.exceptions.InvalidTargetsError, match="one label per structure"):
        make().fit(X, np.column_stack([y, y]))


def test_modules_of_several_properties_are_averaged(module, table, make, X, y):
    structures, labels = table
    labels = labels.rename(columns="{} again".format)
    several = MPTRegressor(module, max_epochs=2, random_state=0, unfrozen="all").fit(structures, labels)
    one = TransferRegressor(module, max_epochs=2, random_state=0, unfrozen="all").fit(X, y)
    hub = [
        several.to_module(name="several", unit="u"),
        one.to_module(name="one", target="t", unit="u"),
    ]
    assert make(hub, weighting="all-average").fit(X, y).composed_card_.head is None
