"""`evaluate --audit` and `modules fingerprint`: what modules have seen, and how their cards come to know."""

import json
from dataclasses import replace

import pytest

from matmosaic import PretrainedModule, load_module
from matmosaic.datasets import read_structures
from matmosaic.modules import TrainingFingerprints

TARGET = "shear_modulus"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def bare(store, tmp_path):
    """Directory of a module without fingerprints."""
    module = load_module(store / "first")
    path = tmp_path / "bare"
    PretrainedModule(replace(module.card, name="bare", fingerprints=[]), module.weights).save(path)
    return path


@pytest.fixture
def half(data, tmp_path):
    """File of the first twelve structures, in other cells."""
    larger = [one * (1, 2, 1) for one in read_structures(data)[0][:12]]
    rows = [
        {
            "lattice": one.lattice.matrix.tolist(),
            "species": [site.specie.symbol for site in one],
            "frac_coords": one.frac_coords.tolist(),
        }
        for one in larger
    ]
    return write(tmp_path / "half.jsonl", rows)


def test_audit_of_each_module_and_split(run, data, store, bare, half):
    part = load_module(bare).with_fingerprints(read_structures(half)[0], complete=False)
    part.save(half.parent / "part")
    splits = half.parent / "splits.json"
    parts = [{"train": [*range(6, 24)], "test": [*range(6)]}, {"train": [0, 1], "test": [*range(10, 16)]}]
    splits.write_text(json.dumps(parts), encoding="utf-8")
    modules = ["--module", store / "first", half.parent / "part", bare]
    command = ["evaluate", data, "--target", TARGET, "--estimators", "ridge", "--splits", splits, "--audit"]
    training, whole, half_seen, unknown = run(*command, *modules, "--json").document["audit"]
    assert training["module"] == "training rows"
    assert [split["by_structure"] for split in training["splits"]] == [0, 0]
    assert (whole["module"], whole["complete"]) == (str(store / "first"), True)
    assert [split["by_structure"] for split in whole["splits"]] == [6, 6]
    assert half_seen["complete"] is False
    assert [(split["n_test"], split["by_structure"]) for split in half_seen["splits"]] == [(6, 6), (6, 2)]
    assert (unknown["module"], unknown["complete"], unknown["splits"]) == (str(bare), None, None)
    assert "modules fingerprint" in unknown["error"]
    text = run(*command, *modules).out
    assert "Test rows probably seen before, of 6, 6 in each split" in text
    assert f"{half.parent / 'part'} *" in text
    assert "6, 2" in text
    assert "* at least: " in text
    assert f"{bare}: no fingerprints on the card" in text


def test_rows_that_occur_twice_are_seen_in_training(run, rows, half):
    twice = write(half.parent / "twice.jsonl", [*rows, *rows])
    (training,) = run(
        "evaluate", twice, "--target", TARGET, "--estimators", "constant", "--cv", 2, "--audit", "--json"
    ).document["audit"]
    assert all(0 < split["by_structure"] < split["n_test"] for split in training["splits"])


def test_no_audit_unless_asked(run, data, store):
    outcome = run(
        "evaluate", data, "--target", TARGET, "--estimators", "constant", "--cv", 2, "--json"
    ).document
    assert "audit" not in outcome


def test_fingerprints_are_added(run, data, half, bare):
    before = load_module(bare)
    outcome = run("modules", "fingerprint", bare, half, "--incomplete", "--json")
    assert outcome.status == 0
    structures, _ = read_structures(half)
    expected = TrainingFingerprints.of(structures, complete=False)
    assert outcome.document == {
        "module": str(bare),
        "n_rows": 12,
        "structures": len(expected.structures),
        "compositions": len(expected.compositions),
        "complete": False,
    }
    assert TrainingFingerprints.on(load_module(bare).card) == expected
    assert "24 crystals and" in run("modules", "fingerprint", bare, data).out
    after = load_module(bare)
    assert TrainingFingerprints.on(after.card) == TrainingFingerprints.of(read_structures(data)[0])
    assert replace(after.card, fingerprints=[]) == before.card
    assert "fingerprints" in run("modules", "show", bare).out


def test_how_fingerprints_are_shown(run, store, bare, half):
    assert "hashes of 24 crystals, " in run("modules", "show", store / "first").out
    assert "fingerprints      -" in run("modules", "show", bare).out
    run("modules", "fingerprint", bare, half, "--incomplete")
    assert "hashes of 12 crystals, " in run("modules", "show", bare).out
    assert "compositions of a part" in run("modules", "show", bare).out


def test_saved_estimator_is_left_alone(run, model, data):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    outcome = run("modules", "fingerprint", model, data)
    assert (outcome.status, outcome.out) == (2, "")
    assert "is more than a module: it holds ['estimator.json']" in outcome.err
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_missing_module_is_named(run, data, tmp_path):
    outcome = run("modules", "fingerprint", tmp_path / "nowhere", data)
    assert outcome.status == 2
    assert f"There is no module at {tmp_path / 'nowhere'}" in outcome.err
