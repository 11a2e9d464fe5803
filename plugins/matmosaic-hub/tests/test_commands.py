"""``matmosaic hubs`` and ``matmosaic modules`` on hubs."""

import json

import pytest
from matmosaic_hub import HubStore
from matmosaic_hub.config import config_file

from matmosaic.cli import main
from matmosaic.modules import DirectoryStore


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and returns status, output (JSON as values) and errors."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, json.loads(out) if "--json" in arguments and out else out, err

    return run


@pytest.fixture
def lab(run, folder):
    assert run("hubs", "add", "lab", folder.as_uri())[0] == 0
    return folder.as_uri()


@pytest.fixture
def own(tmp_path, make):
    store = DirectoryStore(tmp_path / "own")
    store.save(make("gap", target="band gap", unit="eV", license_weights="CC-BY-NC-4.0"))
    store.save(make("shear", target="shear_modulus", unit="GPa", base="ab" * 32))
    return store.path


def references(document):
    return [entry["reference"] for entry in document["modules"]]


def test_push_and_list(run, lab, own):
    status, out, err = run("modules", "push", own, "lab:")
    assert (status, err) == (0, "")
    assert out == f"{own / 'gap'} -> lab:gap@1\n{own / 'shear'} -> lab:shear@1\n"
    assert run("modules", "push", own, "lab:")[1].splitlines()[0].endswith("lab:gap@1 (was there)")
    for hub in ("lab:", "lab:*", lab, f"{lab}#*"):
        prefix = "lab:" if hub.startswith("lab") else f"{lab}#"
        assert references(run("modules", "list", hub, "--json")[1]) == [
            f"{prefix}{name}" for name in ("gap", "shear", "tiny")
        ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["property=band gap"], ["gap"]),
        (["property=Shear-Modulus"], ["shear"]),
        (["property=*e*"], ["shear", "tiny"]),
        (["unit=ev*"], ["gap", "tiny"]),
        (["unit=eV"], ["gap"]),
        (["unit=eV", "unit=GPa"], ["gap", "shear"]),
        (["unit=eV*", "license=mit"], ["tiny"]),
        (["base=ababab"], ["shear"]),
        (["backbone=cgcnn", "kind=full"], ["gap", "shear", "tiny"]),
        (["kind=adapter"], []),
    ],
)
def test_filters(run, lab, own, filters, expected):
    run("modules", "push", own, "lab:")
    options = [part for one in filters for part in ("--filter", one)]
    status, document, _ = run("modules", "list", "lab:", *options, "--json")
    assert (status, references(document)) == (0, [f"lab:{name}" for name in expected])


def test_filters_hold_for_other_stores(run, own):
    _, document, _ = run("modules", "list", own, "--filter", "unit=GPa", "--json")
    assert references(document) == [str(own / "shear")]
    assert run("modules", "list", own, "--filter", "unit=J")[1] == f"No module matches {own} with unit=J\n"
    status, _, err = run("modules", "list", "--filter", "propety=x")
    assert (status, "Did you mean 'property'?" in err) == (2, True)


def test_push_under_another_name_and_version(run, lab, own):
    assert run("modules", "push", own / "gap", "lab:tiny@2")[1] == f"{own / 'gap'} -> lab:tiny@2\n"
    assert run("modules", "push", own / "gap", f"{lab}#tiny@3")[0] == 0
    assert HubStore(lab).versions("tiny") == ["1", "2", "3"]
    status, _, err = run("modules", "push", own / "shear", "lab:tiny@2")
    assert status == 2
    assert err.startswith("error: ") and "versions never change" in err
    status, _, err = run("modules", "push", own, "lab:one")
    assert (status, "names one module" in err) == (2, True)


def test_push_into_a_folder_makes_a_hub(run, own, tmp_path):
    assert run("modules", "push", own / "gap", tmp_path / "new")[0] == 0
    uri = (tmp_path / "new").as_uri()
    assert references(run("modules", "list", tmp_path / "new", "--json")[1]) == [f"{uri}#gap"]


def test_push_into_what_is_no_hub(run, own):
    status, _, err = run("modules", "push", own, "bundled:")
    assert (status, "Nothing can be published in 'bundled'" in err) == (2, True)


def test_pull_caches(run, mirror, web, tmp_path, monkeypatch, module):
    assert run("modules", "pull", f"{web.url}#tiny")[1] == f"{web.url}#tiny -> cache\n"
    monkeypatch.setenv("MATMOSAIC_OFFLINE", "1")
    asked = len(web.asked)
    assert run("modules", "verify", web.url)[0] == 0
    assert len(web.asked) == asked


def test_pull_caches_what_a_folder_has(run, lab, folder):
    assert run("modules", "pull", "lab:")[1] == "lab:tiny -> cache\n"
    folder.rename(folder.with_name("unplugged"))
    assert run("modules", "verify", "lab:tiny")[0] == 0


def test_pull_of_what_is_no_hub_is_told(run, own):
    assert run("modules", "pull", own / "gap")[1] == f"{own / 'gap'} -> this machine (was there)\n"
    assert run("modules", "pull", "bundled:emt-volume")[1].endswith("-> this machine (was there)\n")


def test_pull_to_a_directory_and_to_a_hub(run, lab, tmp_path, module):
    target = tmp_path / "copies"
    assert run("modules", "pull", "lab:", "--to", target)[1] == f"lab:tiny -> {target / 'tiny'}\n"
    assert run("modules", "pull", "lab:tiny", "--to", target)[1].endswith("(was there)\n")
    assert DirectoryStore(target).load("tiny") == module
    copy = (tmp_path / "copy").as_uri()
    assert run("modules", "pull", lab, "--to", copy)[0] == 0
    assert HubStore(copy).load("tiny") == module


def test_nothing_to_pull(run, lab):
    status, _, err = run("modules", "pull", "lab:x*")
    assert (status, "No module matches 'lab:x*'" in err) == (2, True)


def test_verify_finds_a_damaged_module(run, lab, weights):
    assert run("modules", "verify", "lab:")[0] == 0
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    status, document, _ = run("modules", "verify", "lab:tiny", "--json")
    assert status == 1
    assert "was truncated or altered" in document["modules"][0]["error"]


def test_show(run, lab, module):
    assert run("modules", "show", "lab:tiny@1", "--json")[1]["card"] == module.card.to_dict()


def test_hubs_are_named_and_forgotten(run):
    assert run("hubs", "list")[1] == "No hub has a name\n"
    options = ["--option", "endpoint_url=http://s3", "--option", "anon=true", "--json"]
    _, document, _ = run("hubs", "add", "lab", "s3://bucket/hub", *options)
    assert document["options"] == {"endpoint_url": "http://s3", "anon": True}
    assert run("hubs", "list")[1].splitlines()[2] == "lab:  s3://bucket/hub"
    assert run("hubs", "list", "--json")[1]["hubs"][0]["name"] == "lab"
    assert run("hubs", "remove", "lab")[1].startswith("lab: was removed from ")
    assert run("hubs", "remove", "lab")[0] == 2


def test_credentials_are_refused(run):
    status, out, err = run("hubs", "add", "lab", "https://me:hush@host/hub")
    assert (status, out) == (2, "")
    assert "credentials" in err and "hush" not in err


def test_unusable_file_of_names_is_one_message(run):
    config_file().write_bytes(b"[hubs.lab]\nurl = 's3://h\xfcb'")
    status, out, err = run("hubs", "list")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {config_file()} cannot be used: ") and err.count("\n") == 1


def test_infinite_option_is_refused(run):
    assert run("hubs", "add", "lab", "s3://bucket/hub", "--option", "z=1e400")[0] == 2
    assert run("hubs", "list")[1] == "No hub has a name\n"


def test_unreachable_hub_is_one_message(run, web):
    web.close()
    status, out, err = run("modules", "list", web.url)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {web.url}/index.json cannot be read (") and err.count("\n") == 1
