"""Probes on the command line: fit, predict, evaluate, and featurizers among the modules."""

import json

import numpy as np
import pandas as pd
import pytest

from matmosaic import ProbeRegressor
from matmosaic.estimators import load_estimator
from matmosaic.featurizers import Featurizer, references

TARGET = "shear_modulus"


class Density(Featurizer):
    """One number."""

    def featurize(self, structure):
        return np.array([structure.density])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)"], dtype=object)


@pytest.fixture(autouse=True)
def _plugin(monkeypatch):
    """Let "featurizer:density" load Density."""
    monkeypatch.setattr(references, "_load_plugin", lambda name: {"density": Density}[name]())
    monkeypatch.setattr(references, "_likely_names", lambda cls: iter(["density"]))


@pytest.fixture
def fit(run, data, tmp_path):
    def fit(*options):
        return run("fit", data, "--target", TARGET, "-o", tmp_path / "model", *options)

    return fit


def test_fit_and_predict(fit, run, data, tmp_path):
    outcome = fit("--estimator", "probe", "--module", "bundled:emt-volume", "--unit", "GPa", "--seed", 3)
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("Trained on 24 rows of shear_modulus in ")
    assert lines[1].startswith("Inner estimate of the mean absolute error ")
    assert lines[1].endswith(
        " GPa, of rows left out in turn; a little too small, since choices were made on these rows."
    )
    assert lines[3].split() == ["source", "columns", "importance", "(GPa)"]
    assert {line.split()[0]: line.split()[1] for line in lines[5:7]} == {
        "emt-volume": "32",
        "predictions": "1",
    }
    assert lines[-1] == f"  matmosaic predict {tmp_path / 'model'} DATA -o FILE.csv"
    probe = load_estimator(tmp_path / "model")
    assert isinstance(probe, ProbeRegressor)
    assert (probe.sources, probe.device, probe.random_state) == (["bundled:emt-volume"], "auto", 3)
    assert run("predict", tmp_path / "model", data, "-o", tmp_path / "p.csv").status == 0
    predicted = pd.read_csv(tmp_path / "p.csv")
    assert np.abs(predicted["prediction"] - predicted[TARGET]).mean() < predicted[TARGET].std()


def test_json(fit, tmp_path):
    document = fit("--estimator", "probe", "--module", "bundled:emt-volume", "--json").document
    probe = load_estimator(tmp_path / "model")
    assert document.pop("fit_seconds") > 0
    assert document.pop("inner_mae") == pytest.approx(-probe.estimator_.best_score_)
    assert document.pop("best_params") == probe.best_params_
    sources = {one["source"]: one["n_columns"] for one in document.pop("sources")}
    assert sources == {"emt-volume": 32, "predictions": 1}
    assert document == {
        "model": str(tmp_path / "model"),
        "estimator": "probe",
        "modules": ["bundled:emt-volume"],
        "target": TARGET,
        "unit": None,
        "n_rows": 24,
        "n_train": 24,
        "dropped_rows": [],
    }


def test_bundled_modules_are_read_if_none_is_named(fit):
    outcome = fit("--estimator", "probe")
    assert outcome.out.splitlines()[0] == "No module was named; used bundled:*."
    assert "small-alignn-eform" in outcome.out


def test_featurizers_are_probed_unless_another_method_is_named(fit, tmp_path):
    document = fit("--modules", "bundled:emt-volume", "featurizer:density", "--json").document
    assert document["estimator"] == "probe"
    assert {one["source"] for one in document["sources"]} == {"emt-volume", "density", "predictions"}
    assert load_estimator(tmp_path / "model").sources == ["bundled:emt-volume", "featurizer:density"]


@pytest.mark.parametrize("estimator", ["transfer"])
def test_no_featurizer_is_trained(estimator, fit):
    outcome = fit("--estimator", estimator, "--module", "featurizer:density")
    assert outcome.status == 2
    assert "featurizers are for probe, moe, composed" in outcome.err


def test_evaluate(run, data):
    options = ["--estimators", "constant,ridge,probe", "--cv", 2, "--json"]
    modules = ["--module", "bundled:emt-volume", "featurizer:density"]
    document = run("evaluate", data, "--target", TARGET, *options, *modules).document
    rows = {(row["method"], row["module"]) for row in document["rows"]}
    assert rows == {("constant", None), ("ridge", "bundled:emt-volume"), ("probe", None)}
    errors = {row["method"]: row["mae_mean"] for row in document["rows"]}
    assert errors["probe"] < errors["constant"]


@pytest.mark.parametrize("method", ["ridge", "transfer"])
def test_methods_that_would_compare_nothing_are_refused(method, run, data):
    options = ["--estimators", f"constant,{method},probe", "--module", "featurizer:density"]
    outcome = run("evaluate", data, "--target", TARGET, *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert f"--estimators {method} starts from a network. Got ['featurizer:density']" in outcome.err


@pytest.mark.parametrize("option", [["--epochs", 5], ["--unfrozen", "all"]])
def test_no_probe_is_trained_in_epochs(option, fit, run, data):
    message = f"{option[0]} is for methods that train a network: scratch, transfer, moe, composed. Got probe"
    outcome = fit("--estimator", "probe", *option)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert message in run("evaluate", data, "--target", TARGET, "--estimators", "probe", *option).err


def test_modules_of_evaluate_may_be_named_as_those_of_fit(run, data):
    options = ["--estimators", "probe", "--cv", 2, "--json"]
    outcome = run("evaluate", data, "--target", TARGET, *options, "--modules", "bundled:emt-volume")
    assert [row["method"] for row in outcome.document["rows"]] == ["probe"]


def test_the_same_features_as_in_python(run, data, tmp_path):
    split = [{"train": list(range(16)), "test": list(range(16, 24))}]
    (tmp_path / "splits.json").write_text(json.dumps(split), encoding="utf-8")
    options = ["--estimators", "probe", "--splits", tmp_path / "splits.json", "--json", "--seed", 5]
    document = run("evaluate", data, "--target", TARGET, "--module", "bundled:emt-*", *options).document
    from matmosaic import read_structures

    X, table = read_structures(data, target=TARGET)
    y = table[TARGET].to_numpy()
    probe = ProbeRegressor("bundled:emt-*", random_state=5).fit(X[:16], y[:16])
    error = np.abs(probe.predict(X[16:]) - y[16:]).mean()
    assert document["rows"][0]["mae_mean"] == pytest.approx(error, rel=1e-3)
