import json
import subprocess
import sys
import time

import pytest

from matmosaic import list_modules

QUICK = ["--n-train", "40", "--splits", "1", "--epochs", "3"]
COLUMNS = {"method", "module", "mae_mean", "mae_std", "fit_seconds"}


def expected_rows():
    modules = list_modules("bundled:*")
    assert len(modules) >= 4
    alone = {("constant", None), ("scratch", None), ("probe", None), ("moe", None)}
    alone.add(("composed", "bundled:emt-*"))
    return alone | {(m, r) for m in ("ridge", "transfer") for r in modules}


def test_json_compares_every_bundled_module(run):
    outcome = run("demo", *QUICK, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    document = outcome.document
    assert {key: document[key] for key in ("target", "unit", "n_train")} == {
        "target": "vacancy_energy",
        "unit": "eV",
        "n_train": 40,
    }
    assert set(document) == {"target", "unit", "n_train", "rows"}
    assert {(row["method"], row["module"]) for row in document["rows"]} == expected_rows()
    assert all(set(row) - {"gate_scores", "weights"} == COLUMNS for row in document["rows"])
    (gate,) = [row["gate_scores"] for row in document["rows"] if "gate_scores" in row]
    assert sum(gate.values()) == pytest.approx(1)
    assert [f"bundled:{name}" for name in sorted(gate)] == list_modules("bundled:*")
    (weights,) = [row["weights"] for row in document["rows"] if "weights" in row]
    assert sum(weights.values()) == pytest.approx(1)
    assert [f"bundled:{name}" for name in sorted(weights)] == list_modules("bundled:emt-*")


def test_text_marks_the_best_and_says_what_is_next(run):
    lines = run("demo", *QUICK, "--target", "vacancy_energy").out.splitlines()
    assert lines[0] == "vacancy_energy of embedded alloys, learnt from 40 labels, tested on the other 260."
    table = lines[5 : 5 + len(expected_rows())]
    errors = [float(line.split()[2]) for line in table]
    assert errors == sorted(errors)
    assert [line.endswith("best") for line in table] == [True] + [False] * (len(table) - 1)
    assert "MAE (eV)" in lines[3]
    assert max(map(len, lines)) <= 100
    gate = lines.index("Gate of moe, mean of the splits:")
    bundled = list_modules("bundled:*")
    shown = [line.split()[0] for line in lines[gate + 4 : gate + 4 + len(bundled)]]
    assert [f"bundled:{name}" for name in sorted(shown)] == bundled
    assert sum(line.startswith("  matmosaic ") for line in lines) == 3


def test_next_steps_are_commands(run):
    from matmosaic.cli._main import build_parser

    lines = run("demo", *QUICK).out.splitlines()
    steps = [line.split()[1:] for line in lines if line.startswith("  matmosaic ")]
    commands = [build_parser().parse_args(step).run.__module__.rpartition(".")[2] for step in steps]
    assert commands == ["evaluate", "fit", "predict"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-train", "300"], "--n-train must be from 10 to 299: vacancy_energy is known for 300 alloys"),
        (["--n-train", "9"], "Got 9."),
        (["--target", "shear"], "Valid: 'bulk_modulus'"),
    ],
)
def test_bad_options(run, options, message):
    outcome = run("demo", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.slow
def test_whole_demo_in_three_minutes():
    """Transfer of the best module beats training from scratch, and both beat the constant."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "matmosaic", "demo", "--json"], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - start < 180
    assert result.stderr == ""
    rows = json.loads(result.stdout)["rows"]
    best = {}
    for row in rows:
        best.setdefault(row["method"], row["mae_mean"])
    assert best["transfer"] < best["scratch"] < best["constant"]
    assert best["moe"] < best["scratch"]
    assert best["probe"] < best["scratch"]
    assert {(row["method"], row["module"]) for row in rows} == expected_rows()
