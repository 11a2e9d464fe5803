import gc
import json
import shutil

import pytest

from matmosaic import load_module
from matmosaic.modules import importers


@pytest.fixture
def own(store, tmp_path):
    """A copy of the store that a test may damage."""
    return shutil.copytree(store, tmp_path / "own")


# --- list --------------------------------------------------------------------------------------------


def test_bundled_modules_are_listed(run):
    outcome = run("modules", "list")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["module", "target", "MAE", "trained", "on", "backbone", "licence"]
    assert any(line.startswith("bundled:emt-volume ") for line in lines[2:])
    assert max(map(len, lines)) <= 100


def test_directories_globs_and_modules_are_listed_once(run, store):
    references = [str(store), str(store / "f*"), str(store / "second"), "bundled:emt-volume"]
    document = run("modules", "list", "--json", *references).document
    found = [entry["reference"] for entry in document["modules"]]
    assert found == [str(store / "first"), str(store / "second"), "bundled:emt-volume"]
    first = document["modules"][0]
    assert (first["target"], first["unit"], first["n_train"]) == ("shear_modulus", "GPa", 20)
    assert first["mae"] > 0


def test_module_of_several_properties_is_listed(run, several):
    (line,) = run("modules", "list", several).out.splitlines()[2:]
    assert line.split()[1:] == ["2", "properties", "-", "18", "cgcnn", "-"]
    (entry,) = run("modules", "list", several, "--json").document["modules"]
    assert (entry["properties"], entry["target"], entry["mae"]) == (["mass", "size"], "mass, size", None)


def test_nothing_found_is_no_error(run):
    outcome = run("modules", "list", "bundled:nothing-*")
    assert outcome == (0, "No module matches bundled:nothing-*\n", "")
    assert run("modules", "list", "bundled:nothing-*", "--json").document == {"modules": []}


def test_unreadable_card_does_not_hide_others(run, own):
    (own / "first" / "card.json").write_text("{", encoding="utf-8")
    outcome = run("modules", "list", own)
    assert outcome.status == 0
    assert f"unreadable: {own / 'first' / 'card.json'} is not readable JSON" in outcome.out
    assert "second" in outcome.out


def test_unknown_store_is_an_error(run):
    outcome = run("modules", "list", "bundeld:x")
    assert outcome.status == 2
    assert "Did you mean 'bundled'?" in outcome.err


def test_references_are_listed_whole(run, store, tmp_path):
    long = shutil.copytree(store, tmp_path / "a-name-of-more-characters-than-a-cell-of-a-table-has")
    for action in ("list", "verify"):
        lines = run("modules", action, long).out.splitlines()
        assert [line.split()[0] for line in lines[2:]] == [str(long / "first"), str(long / "second")]


@pytest.mark.parametrize("action", ["list", "show", "verify", "pull"])
def test_no_reference_is_not_the_current_directory(run, action, store, monkeypatch):
    monkeypatch.chdir(store)
    outcome = run("modules", action, "")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.endswith("Got ''.\n")


# --- show --------------------------------------------------------------------------------------------


def test_card_is_shown(run, store):
    lines = run("modules", "show", store / "first").out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["reference"] == str(store / "first")
    assert shown["unit"] == "GPa"
    assert shown["golden"] == "3 golden outputs"
    assert shown["base"] == "-"


def test_properties_are_shown(run, several):
    lines = run("modules", "show", several).out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["properties"].startswith("name mass, unit u, target_transform (name identity, mean ")
    assert "; name size, unit angstrom, target_transform (" in shown["properties"]
    assert "; name MAE size, value " in shown["metrics"]


def test_card_as_json_is_the_card(run, store):
    document = run("modules", "show", store / "first", "--json").document
    assert document["card"] == json.loads((store / "first" / "card.json").read_text(encoding="utf-8"))


def test_versions_are_references(run):
    assert run("modules", "show", "bundled:emt-volume@1").status == 0


@pytest.mark.parametrize("reference", ["bundled:emt-volum", "bundled:nothing-*", "no/such/path"])
def test_unknown_module_is_an_error(run, reference):
    outcome = run("modules", "show", reference)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")


# --- import ------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path, store, monkeypatch):
    """Files whose import gives renamed copies of a tiny module."""
    from dataclasses import replace
    from pathlib import Path

    from matmosaic.modules import PretrainedModule

    module = load_module(store / "first")

    def load(format, path, **card):
        assert format == "cgcnn"
        fields = {key: value for key, value in card.items() if value is not None}
        return PretrainedModule(replace(module.card, name=Path(path).stem, **fields), module.weights)

    monkeypatch.setattr(importers, "load", load)
    paths = [tmp_path / f"{name}.tar" for name in ("a", "b")]
    for path in paths:
        path.write_bytes(b"")
    return paths


def test_a_module_per_file(run, checkpoints, tmp_path):
    options = ["--format", "cgcnn", "--store", tmp_path / "new", "--unit", "eV", "--license-weights", "MIT"]
    outcome = run("modules", "import", *checkpoints, *options, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert [entry["reference"] for entry in outcome.document["modules"]] == [
        str(tmp_path / "new" / "a"),
        str(tmp_path / "new" / "b"),
    ]
    card = load_module(tmp_path / "new" / "b").card
    assert (card.name, card.unit, card.license_weights) == ("b", "eV", "MIT")


def test_taken_names_are_refused_before_anything_is_saved(run, checkpoints, tmp_path):
    options = ["--format", "cgcnn", "--store", tmp_path / "new"]
    assert run("modules", "import", checkpoints[1], *options).status == 0
    outcome = run("modules", "import", *checkpoints, *options)
    assert outcome.status == 2
    assert "holds ['b'] already; use --overwrite" in outcome.err
    assert not (tmp_path / "new" / "a").exists()
    assert run("modules", "import", *checkpoints, *options, "--overwrite").status == 0


def test_files_of_one_name_are_refused(run, checkpoints, tmp_path):
    outcome = run(
        "modules", "import", checkpoints[0], checkpoints[0], "--format", "cgcnn", "--store", tmp_path / "n"
    )
    assert outcome.status == 2
    assert "Several files would make the module 'a'" in outcome.err


def test_missing_file_and_unknown_format(run, tmp_path):
    options = ["--store", tmp_path / "new", "--format"]
    assert "There is no file missing.tar" in run("modules", "import", "missing.tar", *options, "cgcnn").err
    (tmp_path / "file").write_bytes(b"")
    outcome = run("modules", "import", tmp_path / "file", *options, "cgcn")
    assert outcome.status == 2
    assert "Did you mean 'cgcnn'?" in outcome.err


def test_published_checkpoints(run, shared_data, tmp_path):
    file = shared_data / "moe" / "extractors" / "mp_eform.pth.tar"
    options = [
        "--format",
        "cgcnn",
        "--store",
        tmp_path / "store",
        "--target",
        "formation energy",
        "--unit",
        "eV/atom",
    ]
    outcome = run("modules", "import", file, *options)
    assert outcome == (0, f"{file} -> {tmp_path / 'store' / 'mp_eform'}\n", outcome.err)
    assert run("modules", "verify", tmp_path / "store").status == 0


# --- verify ------------------------------------------------------------------------------------------


def test_intact_modules(run, store):
    outcome = run("modules", "verify", store, "--json")
    assert outcome.status == 0
    assert [(entry["intact"], entry["error"]) for entry in outcome.document["modules"]] == [(True, None)] * 2


def test_damaged_module_is_named_and_others_verified(run, own):
    weights = own / "first" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = run("modules", "verify", own)
    assert (outcome.status, outcome.err) == (1, "")
    assert outcome.out.splitlines()[-1].startswith(f"{own / 'first'}: ")
    assert "sha256" in outcome.out
    document = run("modules", "verify", own, "--json").document
    assert [entry["intact"] for entry in document["modules"]] == [False, True]
    assert [entry["state"] for entry in document["modules"]] == ["damaged", "intact"]


@pytest.mark.filterwarnings("ignore:Module 'first' has a head")
def test_adapters_without_their_base_are_unavailable(run, data, store, tmp_path):
    hub = shutil.copytree(store, tmp_path / "hub")
    options = ["--target", "shear_modulus", "--unit", "GPa", "--kind", "adapter", "--start", hub / "first"]
    assert run("pretrain", data, *options, "--store", hub, "--name", "small", "--epochs", 0).status == 0
    shutil.move(hub / "small", tmp_path / "alone" / "small")
    gc.collect()  # a base that is in use would be found
    outcome = run("modules", "verify", tmp_path / "alone", "--json")
    (entry,) = outcome.document["modules"]
    assert (outcome.status, entry["state"], entry["intact"]) == (1, "unavailable", False)
    assert "was not found" in entry["error"]
    lines = run("modules", "verify", tmp_path / "alone", store).out.splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["unavailable", "intact", "intact"]


def test_nothing_to_verify_is_an_error(run):
    assert run("modules", "verify", "bundled:nothing-*").status == 2
