import json
import re
import shutil

import pytest

from matmosaic import load_module
from matmosaic.estimators import TransferRegressor
from matmosaic.modules import TrainingFingerprints

TARGET = "shear_modulus"


@pytest.fixture
def pretrain(run, data, tmp_path):
    def pretrain(*options, name="mine"):
        card = ["--target", TARGET, "--unit", "GPa", "--store", tmp_path / "store", "--name", name]
        return run("pretrain", data, *card, "--epochs", 2, *options)

    return pretrain


TINY = ["--backbone-option", "width=8", "--backbone-option", "n_convolutions=1"]


def test_module_with_card(pretrain, rows, tmp_path):
    card = ["--license-weights", "CC-BY-4.0", "--dataset-name", "alloys", "--dataset-doi", "10.1000/1"]
    outcome = pretrain(*TINY, *card)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"Saved {tmp_path / 'store' / 'mine'}; start from it with:\n  matmosaic fit" in outcome.out
    card = load_module(tmp_path / "store" / "mine").card
    assert (card.target, card.unit, card.n_train, card.license_weights) == (TARGET, "GPa", 20, "CC-BY-4.0")
    assert card.dataset == {"name": "alloys", "doi": "10.1000/1"}
    assert card.backbone_options["width"] == 8
    assert card.fingerprints == TrainingFingerprints.of(rows).to_field()


@pytest.mark.filterwarnings("default")
def test_module_is_trained_further(pretrain, tmp_path, store):
    outcome = pretrain("--start", store / "first", "--json")
    assert "Module 'first' has a head for 'shear_modulus', and head='new' starts a new one." in outcome.err
    document = outcome.document
    card = load_module(tmp_path / "store" / "mine").card
    assert card.base == load_module(store / "first").card.sha256
    assert (document["start"], document["sha256"]) == (str(store / "first"), card.sha256)
    assert document["module"] == str(tmp_path / "store" / "mine")


@pytest.mark.filterwarnings("default")
def test_module_of_adapters(pretrain, tmp_path, store):
    shutil.copytree(store / "first", tmp_path / "store" / "first")
    document = pretrain("--start", store / "first", "--kind", "adapter", "--json").document
    assert document["kind"] == "adapter"
    mine = load_module(tmp_path / "store" / "mine")
    assert mine.card.kind == "adapter"
    assert mine.base == load_module(store / "first")
    assert not [name for name in mine.weights if name.startswith("backbone.base.")]


# --- several properties ------------------------------------------------------------------------------


@pytest.fixture
def pretrain_several(run, wide, tmp_path):
    def pretrain(*options, target="mass,size", unit="u, angstrom"):
        card = ["--target", target, "--unit", unit, "--store", tmp_path / "store", "--name", "two"]
        return run("pretrain", wide, *card, "--epochs", 2, *TINY, *options)

    return pretrain


def test_module_of_several_properties(pretrain_several, rows, tmp_path, run):
    outcome = pretrain_several("--drop-missing")
    assert outcome.status == 0
    assert "Trained on 18 rows of mass,size, 5 held out for validation (1 without a label left" in outcome.out
    assert re.search(r"the best of all, which is kept: mass [\d.]+ u, size [\d.]+ angstrom\.", outcome.out)
    card = load_module(tmp_path / "store" / "two").card
    assert [(one["name"], one["unit"]) for one in card.properties] == [("mass", "u"), ("size", "angstrom")]
    labelled = [row for number, row in enumerate(rows) if number != 3]
    assert card.fingerprints == TrainingFingerprints.of(labelled).to_field()


def test_module_of_several_properties_is_described(pretrain_several, tmp_path):
    document = pretrain_several("--drop-missing", "--json").document
    errors = [metric["value"] for metric in load_module(tmp_path / "store" / "two").card.metrics]
    assert document["properties"] == [
        {"name": "mass", "unit": "u", "valid_mae": errors[0]},
        {"name": "size", "unit": "angstrom", "valid_mae": errors[1]},
    ]
    assert document["dropped_rows"] == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "column 'mass,size' has no value in 1 of 24 rows: 3 ("),
        ({"target": "mass,sise"}, "Unknown column 'sise'. Did you mean 'size'?"),
        ({"target": "mass,name"}, "has 'name' = 'alloy-20'; expected a number"),
        ({"target": "mass,"}, "Got 'mass,', in which number 2 of 2 is empty."),
    ],
)
def test_several_properties_that_cannot_be_learnt(pretrain_several, options, message, tmp_path):
    outcome = pretrain_several(**options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("u", "--unit must name a unit for each of the 2 columns ['mass', 'size']"),
        (",u", "--unit takes one name, or several with commas between. Got ',u', in which number 1 of 2"),
    ],
)
def test_each_property_needs_a_unit(pretrain_several, unit, message, tmp_path):
    outcome = pretrain_several("--drop-missing", unit=unit)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "store").exists()


def test_name_of_a_column_may_hold_commas(run, rows, tmp_path):
    data = tmp_path / "gaps.jsonl"
    named = [{**row, "gap, eV": row[TARGET], "gap": None, "eV": None} for row in rows]
    data.write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    card = ["--target", "gap, eV", "--unit", "eV", "--store", tmp_path / "store", "--name", "mine"]
    outcome = run("pretrain", data, *card, "--epochs", 1, *TINY)
    assert (outcome.status, outcome.err) == (0, "")
    card = load_module(tmp_path / "store" / "mine").card
    assert (card.target, card.unit, card.properties) == ("gap, eV", "eV", [])


def test_one_column_twice_is_refused(pretrain_several):
    outcome = pretrain_several("--drop-missing", target="size,size")
    assert (outcome.status, outcome.out) == (2, "")
    assert "a name of its own. Got several columns ['size']" in outcome.err


def test_unknown_property_of_the_alloys_is_named(run, tmp_path):
    card = ["--unit", "1,1", "--store", tmp_path / "store", "--name", "two"]
    outcome = run("pretrain", "bundled:alloys", "--target", "volume,presure", *card)
    assert (outcome.status, outcome.out) == (2, "")
    assert "Unknown property of the alloys 'presure'. Did you mean 'pressure'?" in outcome.err


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "cgcn"], "Did you mean 'cgcnn'?"),
        (["--backbone-option", "widh=8"], "Did you mean 'width'?"),
        (["--backbone-option", "width"], "expected KEY=VALUE, got 'width'"),
        (["--start", "bundled:emt-volume", "--backbone", "cgcnn"], "--start brings its own network"),
        (["--kind", "adapter"], "--kind adapter trains adapters of a module; name it with --start"),
        (["--kind", "adapters"], "invalid choice: 'adapters'"),
        (["--name", "../up"], "'../up' cannot name a module"),
    ],
)
def test_bad_options(pretrain, tmp_path, options, message):
    outcome = pretrain(*options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "store").exists()


def test_taken_name_is_refused_before_training(pretrain, monkeypatch):
    assert pretrain(*TINY).status == 0
    with monkeypatch.context() as patch:
        patch.setattr(TransferRegressor, "fit", None)
        outcome = pretrain(*TINY)
    assert outcome.status == 2
    assert "holds a module 'mine'; choose another --name, or use --overwrite" in outcome.err
    assert pretrain(*TINY, "--overwrite").status == 0


@pytest.mark.filterwarnings("default")
def test_interrupted_module_is_not_kept(pretrain, monkeypatch, tmp_path):
    def stop(self, net, **kwargs):
        if len(net.history) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("matmosaic.cli._training.EpochProgress.on_batch_end", stop)
    outcome = pretrain(*TINY)
    assert outcome == (130, "", "interrupted\n")
    assert not (tmp_path / "store").exists()
