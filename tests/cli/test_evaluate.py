import json
from types import SimpleNamespace

import numpy as np
import pytest

from matmosaic import read_structures
from matmosaic.cli._mixture import lines_of_answers
from matmosaic.estimators import MoERegressor, TransferRegressor
from matmosaic.modules import list_modules

TARGET = "shear_modulus"


@pytest.fixture
def evaluate(run, data):
    def evaluate(*options, path=data, trains=True):
        length = ["--epochs", 2] if trains else []
        return run("evaluate", path, "--target", TARGET, *length, *options)

    return evaluate


@pytest.fixture
def splits(tmp_path):
    def splits(*parts):
        path = tmp_path / "splits.json"
        path.write_text(json.dumps(list(parts)), encoding="utf-8")
        return path

    return splits


def test_table_of_all_methods(evaluate, store):
    outcome = evaluate("--cv", 2, "--unit", "GPa", "--module", store / "*")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "shear_modulus: 24 rows, 2 splits, best first."
    assert lines[2].split("  ")[0] == "method"
    assert "MAE (GPa)" in lines[2]
    methods = [line.split()[0] for line in lines[4:10]]
    assert sorted(methods) == ["constant", "ridge", "ridge", "scratch", "transfer", "transfer"]
    assert max(map(len, lines)) <= 100
    assert len(lines) == 4 + 6 + 2 + 6


def test_json_of_each_fold(evaluate):
    document = evaluate("--json", "--estimators", "constant,scratch", "--cv", 3, "--unit", "GPa").document
    assert {key: document[key] for key in ("target", "unit", "n_rows", "dropped_rows", "n_splits")} == {
        "target": TARGET,
        "unit": "GPa",
        "n_rows": 24,
        "dropped_rows": [],
        "n_splits": 3,
    }
    for row in document["rows"]:
        assert row["module"] is None
        assert [fold["n_train"] for fold in row["folds"]] == [16, 16, 16]
        for name in ("mae", "rmse", "r2"):
            values = [fold[name] for fold in row["folds"]]
            assert len(values) == 3
            assert row[f"{name}_mean"] == pytest.approx(np.mean(values))
            assert row[f"{name}_std"] == pytest.approx(np.std(values))
    assert [row["mae_mean"] for row in document["rows"]] == sorted(
        row["mae_mean"] for row in document["rows"]
    )


def test_constant_is_the_median_of_the_training_rows(evaluate, splits, data):
    path = splits({"train": [0, 1, 2, 3, 4], "test": [5, 6, 7]})
    document = evaluate("--json", "--estimators", "constant", "--splits", path, trains=False).document
    y = read_structures(data, target=TARGET)[1][TARGET].to_numpy()
    expected = np.abs(np.median(y[:5]) - y[5:8]).mean()
    assert document["rows"][0]["mae_mean"] == pytest.approx(expected)


def test_validation_rows_choose_the_epoch(evaluate, splits, monkeypatch):
    seen = []
    fit = TransferRegressor.fit

    def spy(self, X, y, **options):
        seen.append((len(X), len(options["X_val"]), len(options["y_val"]), self.random_state))
        return fit(self, X, y, **options)

    monkeypatch.setattr(TransferRegressor, "fit", spy)
    part = {"train": list(range(10)), "val": [10, 11], "test": [12, 13]}
    outcome = evaluate(
        "--estimators", "scratch,ridge", "--module", "bundled:emt-volume", "--splits", splits(part, part)
    )
    assert outcome.status == 0
    assert seen == [(10, 2, 2, 0), (10, 2, 2, 1)]


def test_dropped_rows_leave_the_splits(evaluate, splits, gappy):
    path = splits({"train": [0, 1, 2, 3, 4], "test": [5, 6]})
    outcome = evaluate(
        "--json", "--drop-missing", "--estimators", "constant", "--splits", path, path=gappy, trains=False
    )
    y = read_structures(gappy, target=TARGET)[1][TARGET].to_numpy()
    expected = abs(np.median(y[[0, 1, 2, 4]]) - y[6])
    assert outcome.document["rows"][0]["mae_mean"] == pytest.approx(expected)
    assert outcome.document["rows"][0]["r2_mean"] is None  # one test row has no variance
    assert outcome.document["dropped_rows"] == [3, 5]


def test_methods_that_do_not_exist_yet(evaluate):
    outcome = evaluate("--estimators", "scratch,mpt")
    assert outcome.status == 2
    assert "Unknown method 'mpt'." in outcome.err
    assert "Valid: 'composed', 'constant', 'moe', 'probe', 'ridge', 'scratch', 'transfer'." in outcome.err


def test_weights_of_a_composition(evaluate, store):
    modules = ["--module", store / "first", "bundled:emt-volume", "--combine", "features", "--n-active", 1]
    outcome = evaluate("--cv", 2, "--estimators", "composed,transfer", *modules)
    assert "Weights of composed, mean of the splits:" in outcome.out
    document = evaluate("--cv", 2, "--estimators", "composed,transfer", *modules, "--json").document
    (row,) = [row for row in document["rows"] if row["method"] == "composed"]
    for fold in row["folds"]:
        assert sorted(fold["weights"].values()) == [0, 1]
        assert "gate_scores" not in fold


def test_modules_of_two_bases_are_refused_before_training(evaluate, store, monkeypatch):
    monkeypatch.setattr("matmosaic.cli._scoring._score", None)
    outcome = evaluate("--estimators", "constant,composed", "--module", store / "first", "bundled:emt-volume")
    assert outcome.status == 2
    assert "the parameters of these modules cannot be averaged, as they differ" in outcome.err
    assert "use --combine features, which weighs" in outcome.err


@pytest.mark.parametrize("how", [[], ["--width", 8]], ids=str)
def test_modules_of_different_widths_are_mixed(how, evaluate, store):
    modules = ["--module", store / "first", "bundled:emt-volume"]
    assert evaluate("--estimators", "moe", *modules, "--cv", 2, *how).status == 0


def test_mixture_of_all_modules(evaluate):
    options = ["--estimators", "constant,moe", "--module", "bundled:emt-e*", "--module", "bundled:emt-volume"]
    document = evaluate("--json", "--cv", 2, *options).document
    (row,) = [row for row in document["rows"] if row["method"] == "moe"]
    assert row["module"] is None
    for fold in row["folds"]:
        assert set(fold["gate_scores"]) == {"emt-eform", "emt-volume"}
        assert sum(fold["gate_scores"].values()) == pytest.approx(1)
        assert fold["answer"] == "mixture"
    (other,) = [row for row in document["rows"] if row["method"] == "constant"]
    assert all(not {"gate_scores", "answer"} & set(fold) for fold in other["folds"])


def test_gate_of_a_sparse_mixture_as_text(evaluate):
    lines = evaluate("--cv", 2, "--estimators", "moe", "--n-active", 1).out.splitlines()
    assert lines[4].split()[:2] == ["moe", "all"]
    gate = lines[lines.index("Gate of moe, mean of the splits:") + 4 :]
    assert [len(line.split()) for line in gate] == [3] * len(list_modules("bundled:*"))
    assert sum(float(line.split()[1]) for line in gate) == pytest.approx(1)


def test_fallback_says_what_predicted(evaluate, monkeypatch):
    """Two epochs learn nothing, so something simpler predicts."""
    answers = []
    fit = MoERegressor.fit

    def spy(self, *arguments, **options):
        answers.append(fit(self, *arguments, **options).answer_)
        return self

    monkeypatch.setattr(MoERegressor, "fit", spy)
    options = ["--cv", 2, "--estimators", "moe", "--guard", "fallback"]
    folds = evaluate("--json", *options).document["rows"][0]["folds"]
    assert [fold["answer"] for fold in folds] == answers
    assert "mixture" not in answers
    (line,) = [
        line for line in evaluate(*options).out.splitlines() if line.startswith("moe predicted with: ")
    ]
    assert all(answer in line for answer in answers)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["mixture", "ridge", "ridge"], ["moe predicted with: ridge 2 splits, mixture 1"]),
        (["mixture"], ["moe predicted with: mixture 1 split"]),
        ([], []),
    ],
)
def test_answers_are_counted(answers, expected):
    method = SimpleNamespace(method=SimpleNamespace(name="moe"))
    assert lines_of_answers([SimpleNamespace(candidate=method, answers=answers)]) == expected


def test_without_fallback_the_mixture_predicts_and_nothing_is_said(evaluate):
    assert "predicted with" not in evaluate("--cv", 2, "--estimators", "moe").out


def test_too_many_active_modules_are_refused_before_anything_is_fitted(evaluate, monkeypatch):
    monkeypatch.setattr("matmosaic.cli._scoring._score", None)
    outcome = evaluate("--estimators", "constant,moe", "--module", "bundled:emt-e*", "--n-active", 2)
    assert outcome.status == 2
    assert "--n-active must be at most the number of modules, 1: emt-eform. Got 2" in outcome.err


def test_settings_of_a_mixture_without_one(evaluate):
    outcome = evaluate("--estimators", "scratch,ridge", "--guard", "fallback")
    assert outcome.status == 2
    assert "is for mixtures of modules: moe. Got scratch, ridge" in outcome.err


def test_unknown_module(evaluate):
    outcome = evaluate("--module", "bundled:nothing-*")
    assert outcome.status == 2
    assert "Unknown module 'bundled:nothing-*'" in outcome.err


def test_more_folds_than_rows(evaluate):
    outcome = evaluate("--estimators", "constant", "--cv", 25, trains=False)
    assert outcome.status == 2
    assert "--cv 25 needs at least 25 rows with a label. Got 24." in outcome.err


@pytest.mark.filterwarnings("default")
def test_interrupted_fit_ends_the_command(evaluate, monkeypatch):
    def stop(self, net, **kwargs):
        if len(net.history) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("matmosaic.learning.net.ValidationError.on_batch_end", stop)
    outcome = evaluate("--estimators", "scratch")
    assert outcome == (130, "", "interrupted\n")
