import inspect
import json
import re

import numpy as np
import pytest

from matmosaic import list_modules, load_module
from matmosaic.cli._methods import METHODS, Settings
from matmosaic.datasets import load_alloys
from matmosaic.estimators import ComposedRegressor, MoERegressor, TransferRegressor
from matmosaic.estimators.persistence import SavableRegressor, load_estimator

TARGET = "shear_modulus"


@pytest.fixture
def fit(run, data, tmp_path):
    def fit(*options, path=data, target=TARGET, epochs=2):
        common = ["--target", target, "-o", tmp_path / "model", "--epochs", epochs]
        return run("fit", path, *common, *options)

    return fit


def test_transfer_is_saved(fit, tmp_path):
    outcome = fit("--module", "bundled:emt-volume", "--unit", "GPa")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "Trained on 20 rows of shear_modulus, 4 held out for validation."
    assert lines[1].startswith("2 epochs in ")
    assert lines[2].startswith("Validation MAE ")
    assert " GPa at epoch " in lines[2]
    assert lines[3:] == [
        f"Saved {tmp_path / 'model'}; use it with:",
        f"  matmosaic predict {tmp_path / 'model'} DATA -o FILE.csv",
    ]
    estimator = load_estimator(tmp_path / "model")
    assert isinstance(estimator, TransferRegressor)
    assert (estimator.module, estimator.device, estimator.random_state) == ("bundled:emt-volume", "auto", 0)


def test_json_says_what_was_done(fit, tmp_path):
    document = fit("--json", "--module", "bundled:emt-volume", "--seed", 3, "--device", "cpu").document
    estimator = load_estimator(tmp_path / "model")
    assert document["valid_mae"] == pytest.approx(estimator.history_["valid_mae"].min())
    assert document["fit_seconds"] > 0
    del document["valid_mae"], document["fit_seconds"]
    assert document == {
        "model": str(tmp_path / "model"),
        "estimator": "transfer",
        "modules": ["bundled:emt-volume"],
        "target": TARGET,
        "unit": None,
        "n_rows": 24,
        "n_train": 20,
        "n_validation": 4,
        "dropped_rows": [],
        "epochs": 2,
        "best_epoch": estimator.best_epoch_,
    }
    assert estimator.random_state == 3


def test_without_module_trains_from_scratch(fit, tmp_path):
    assert fit("--json").document["estimator"] == "scratch"
    assert load_estimator(tmp_path / "model").module is None


@pytest.mark.parametrize("estimator", [TransferRegressor, MoERegressor, ComposedRegressor])
def test_usual_length_of_training_is_that_of_the_estimator(estimator, run):
    usual = inspect.signature(estimator).parameters["max_epochs"].default
    name = {TransferRegressor: "transfer", MoERegressor: "moe", ComposedRegressor: "composed"}[estimator]
    settings = Settings(epochs=None, seed=0, device="cpu")
    assert METHODS[name].build(None, settings).max_epochs == usual
    for command in ("fit", "evaluate"):
        text = " ".join(run(command, "--help").out.split())
        assert "as in Python, 300 for scratch, transfer and composed, 100 for moe" in text
        assert re.search(rf"{usual} for [a-z, ]*{name}", text)


def test_fit_without_epochs_trains_as_long_as_in_python(run, data, tmp_path, monkeypatch):
    seen = []

    def fit(self, X, y):
        seen.append(self.max_epochs)
        raise KeyboardInterrupt

    monkeypatch.setattr(MoERegressor, "fit", fit)
    run("fit", data, "--target", TARGET, "-o", tmp_path / "model", "--module", "bundled:*")
    assert seen == [MoERegressor("bundled:*").max_epochs]


def test_no_epochs_train_nothing(fit):
    outcome = fit(epochs=0)
    assert outcome.status == 0
    assert "Validation" not in outcome.out


def test_mixture_of_a_glob_and_a_module_is_saved(fit, tmp_path):
    outcome = fit("--module", "bundled:emt-e*", "--module", "bundled:emt-volume", "--unit", "GPa")
    assert (outcome.status, outcome.err) == (0, "")
    estimator = load_estimator(tmp_path / "model")
    assert isinstance(estimator, MoERegressor)
    assert estimator.modules == ["bundled:emt-e*", "bundled:emt-volume"]
    assert sorted(estimator.module_names_) == ["emt-eform", "emt-volume"]
    lines = outcome.out.splitlines()
    assert lines[4] == "module      gate score"
    shown = {line.split()[0]: float(line.split()[1]) for line in lines[6:8]}
    expected = dict(zip(estimator.module_names_, estimator.gate_scores_, strict=True))
    assert shown == pytest.approx(expected, abs=6e-4)
    assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_sparse_mixture_as_json(fit):
    modules = list_modules("bundled:*")
    options = ["--modules", *modules, "--estimator", "moe", "--n-active", 2]
    document = fit("--json", *options).document
    assert (document["estimator"], document["answer"], document["guard"]) == ("moe", "mixture", None)
    assert len(document["gate_scores"]) == len(modules)
    assert sum(score > 0 for score in document["gate_scores"].values()) == 2


@pytest.fixture
def unlike(store):
    """Modules of the widths 8 and 32."""
    return ["--module", store / "first", "--module", "bundled:emt-volume"]


@pytest.mark.parametrize(
    "how",
    [["--width", 16], ["--aggregation", "add"], ["--aggregation", "concat"], ["--aggregation", "ensemble"]],
)
def test_modules_of_different_widths_are_mixed(fit, unlike, how, tmp_path):
    outcome = fit("--json", *unlike, *how)
    assert (outcome.status, outcome.err) == (0, "")
    assert set(outcome.document["gate_scores"]) == {"first", "emt-volume"}
    estimator = load_estimator(tmp_path / "model")
    assert getattr(estimator, how[0].removeprefix("--")) == how[1]


def test_glob_of_several_modules_makes_a_mixture(fit):
    assert fit("--json", "--module", "bundled:*").document["estimator"] == "moe"


def test_fallback_predicts_with_the_best_answer(fit, data, tmp_path):
    """Two epochs learn nothing, so something simpler wins."""
    outcome = fit("--module", "bundled:*", "--guard", "fallback", "--unit", "GPa")
    assert (outcome.status, outcome.err) == (0, "")
    estimator = load_estimator(tmp_path / "model")
    assert estimator.answer_ != "mixture"
    (line,) = [line for line in outcome.out.splitlines() if line.endswith("predicts")]
    assert line.startswith(estimator.answer_)
    assert "validation MAE (GPa)" in outcome.out


@pytest.mark.filterwarnings("default")
def test_report_warns(fit):
    outcome = fit("--module", "bundled:*", "--guard", "report", "--json")
    assert outcome.document["answer"] == "mixture"
    assert outcome.document["guard"]["mixture"] > min(outcome.document["guard"].values())
    assert "has a smaller validation error" in outcome.err


def test_layer_groups_are_unfrozen(fit, tmp_path):
    assert fit("--module", "bundled:emt-volume", "--unfrozen", "conv_1,last").status == 0
    assert load_estimator(tmp_path / "model").unfrozen == ["conv_1", "last"]


def test_weights_of_a_composition(fit, data, several, run, tmp_path):
    start = ["--start", several, "--store", tmp_path / "hub", "--epochs", 1, "--unit", "GPa"]
    for seed in (1, 2):
        card = ["--name", f"m{seed}", "--seed", seed]
        assert run("pretrain", data, "--target", TARGET, *start, *card).status == 0
    composed = [
        "--estimator",
        "composed",
        "--modules",
        several,
        tmp_path / "hub" / "m1",
        tmp_path / "hub" / "m2",
    ]
    document = fit(*composed, "--json").document
    assert set(document["weights"]) == set(document["proxy_errors"]) == {"two", "m1", "m2"}
    assert sum(document["weights"].values()) == pytest.approx(1)
    assert document["proxy_error"] <= min(document["proxy_errors"].values())
    assert document["license_weights"] is None
    outcome = fit(*composed, "--overwrite")
    assert "proxy error" in outcome.out
    assert "mean of the labels" in outcome.out
    assert load_estimator(tmp_path / "model").composed_card_.name == "composed"


@pytest.mark.parametrize(("estimator", "bundled"), [("moe", "bundled:*"), ("composed", "bundled:emt-*")])
def test_mixture_takes_the_bundled_modules_if_none_is_named(fit, estimator, bundled):
    outcome = fit("--estimator", estimator)
    assert outcome.out.startswith(f"No module was named; used {bundled}.\nTrained on ")
    document = fit("--estimator", estimator, "--overwrite", "--json").document
    assert document["modules"] == [bundled]
    assert len(document.get("weights", document.get("gate_scores"))) == len(list_modules(bundled))
    assert "No module was named" not in fit("--estimator", estimator, "--module", bundled, "--overwrite").out


def test_modules_of_two_bases_are_told_the_option(fit, several):
    outcome = fit("--estimator", "composed", "--modules", several, "bundled:emt-volume")
    assert outcome.status == 2
    assert "use --combine features, which weighs" in outcome.err


@pytest.mark.parametrize("target", ["mass", "size"])
def test_head_of_the_named_property_is_inherited(target, fit, wide, several, tmp_path):
    outcome = fit(
        "--module", several, "--head", "inherit", "--drop-missing", path=wide, target=target, epochs=0
    )
    assert (outcome.status, outcome.err) == (0, "")
    estimator = load_estimator(tmp_path / "model")
    crystals = load_alloys(TARGET).data[:3]
    own = load_module(several).predict(crystals)[:, ["mass", "size"].index(target)]
    np.testing.assert_allclose(estimator.predict(crystals), own, rtol=1e-6)


@pytest.mark.filterwarnings("default")
def test_new_head_for_a_known_property_is_said(fit, wide, several):
    outcome = fit("--module", several, "--drop-missing", path=wide, target="mass")
    assert outcome.status == 0
    assert "warning: Module 'two' has a head for 'mass', and --head new starts a new one." in outcome.err


def test_head_of_another_property_is_not_inherited(fit, several):
    outcome = fit("--module", several, "--head", "inherit")
    assert outcome.status == 2
    assert "Unknown property of module 'two' 'shear_modulus'. Valid: 'mass', 'size'." in outcome.err


def test_unit_of_embedded_data_is_known(fit):
    document = fit("--json", path="bundled:alloys", target="vacancy_energy", epochs=1).document
    assert (document["unit"], document["n_rows"]) == ("eV", 300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--estimator", "transfr"], "Unknown estimator 'transfr'. Did you mean 'transfer'?"),
        (["--estimator", "ridge"], "Unknown estimator 'ridge'. Valid: 'composed', 'moe'"),
        (["--estimator", "transfer"], "--estimator transfer starts from one module, named with --module."),
        (["--estimator", "scratch", "--module", "bundled:emt-volume"], "starts from no module"),
        (["--estimator", "transfer", "--modules", "a", "b"], "starts from one module"),
        (["--estimator", "transfer", "--module", "bundled:*"], "'bundled:*' stands for several modules"),
        (["--head", "inherit"], "--head inherit takes the head of one module. Got --estimator scratch"),
        (["--module", "bundled:*", "--head", "inherit"], "Got --estimator moe; leave it out, or use"),
        (["--module", "bundled:emt-volume", "--head", "old"], "invalid choice: 'old'"),
        (
            ["--module", "bundled:emt-volume", "--n-active", 2],
            "--n-active is for mixtures of modules: moe, composed. Got transfer",
        ),
        (["--guard", "report"], "--guard is for mixtures of modules: moe. Got scratch"),
        (["--width", 8], "--width is for mixtures of modules: moe. Got scratch"),
        (["--combine", "features"], "--combine is for mixtures of modules: composed. Got scratch"),
        (
            ["--estimator", "composed", "--modules", "bundled:*", "--guard", "report"],
            "--guard is for mixtures of modules: moe. Got composed",
        ),
        (
            ["--module", "bundled:*", "--aggregation", "concat", "--width", 8],
            "--width is for --aggregation add",
        ),
        (
            ["--module", "bundled:emt-*", "--n-active", 5],
            "'n_active' must be at most the number of modules, 4",
        ),
        (["--module", "bundled:*", "--n-active", 0], "expected a whole number >= 1"),
        (["--module", "bundled:emt-volum"], "Did you mean 'emt-volume'?"),
        (["--module", "bundled:emt-volume", "--unfrozen", "lst"], "Did you mean 'last'?"),
    ],
)
def test_bad_options(fit, tmp_path, options, message):
    outcome = fit(*options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "model").exists()


def test_unknown_column_gets_a_suggestion(fit, data):
    outcome = fit(target="shear_module")
    assert outcome.status == 2
    assert outcome.err.startswith(
        f"error: {data}: Unknown column 'shear_module'. Did you mean 'shear_modulus'?"
    )


def test_unknown_embedded_data(fit):
    assert "Did you mean 'bundled:alloys'?" in fit(path="bundled:alloy").err


def test_missing_labels_are_named(fit, gappy):
    outcome = fit(path=gappy)
    assert outcome.status == 2
    assert "column 'shear_modulus' has no value in 2 of 24 rows: 3 (" in outcome.err
    assert "--drop-missing" in outcome.err


def test_missing_labels_are_dropped_on_request(fit, gappy):
    outcome = fit("--drop-missing", "--json", path=gappy)
    assert outcome.document["dropped_rows"] == [3, 5]
    assert outcome.document["n_rows"] == 22


def test_taken_place_is_refused_before_training(fit, monkeypatch):
    assert fit().status == 0
    with monkeypatch.context() as patch:
        patch.setattr(TransferRegressor, "fit", None)
        outcome = fit()
    assert outcome.status == 2
    assert "replace a model with --overwrite" in outcome.err
    assert fit("--overwrite").status == 0


def test_verbose_logs_epochs_on_stderr(fit):
    outcome = fit("--verbose", "--json")
    assert "epoch 2 of 2: validation MAE" in outcome.err
    assert outcome.document["epochs"] == 2


def interrupt_after(epochs, monkeypatch):
    def stop(self, net, **kwargs):
        if len(net.history) > epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr("matmosaic.cli._training.EpochProgress.on_batch_end", stop)


@pytest.mark.filterwarnings("default")
def test_interrupt_saves_what_was_learnt(fit, monkeypatch, tmp_path):
    interrupt_after(2, monkeypatch)
    outcome = fit(epochs=50)
    assert outcome.status == 130
    assert outcome.err.startswith("warning: fit was interrupted after 2 of 50 epochs")
    assert len(load_estimator(tmp_path / "model").history_) == 2


@pytest.mark.filterwarnings("default")
def test_interrupt_before_the_first_epoch_saves_nothing(fit, monkeypatch, tmp_path):
    interrupt_after(0, monkeypatch)
    outcome = fit(epochs=50)
    assert (outcome.status, outcome.out) == (130, "")
    assert outcome.err.endswith("interrupted\n")
    assert not (tmp_path / "model").exists()


def test_same_seed_same_model(fit, data, tmp_path):
    predictions = []
    for _ in range(2):
        fit("--overwrite", "--device", "cpu")
        from matmosaic import read_structures

        predictions.append(load_estimator(tmp_path / "model").predict(read_structures(data)[0]))
    assert np.array_equal(*predictions)


def test_every_method_that_trains_a_network_can_be_saved():
    networks = [method for method in METHODS.values() if method.trains_network]
    assert {method.name for method in networks} == {"scratch", "transfer", "moe", "composed"}
    for method in networks:
        estimator = method.build(None, Settings(epochs=1, seed=0, device="cpu"))
        assert isinstance(estimator, SavableRegressor)
    assert all(name == method.name for name, method in METHODS.items())


def test_card_of_the_model_names_target_and_unit(fit, tmp_path):
    fit("--unit", "GPa")
    card = json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))
    assert (card["target"], card["unit"]) == (TARGET, "GPa")
