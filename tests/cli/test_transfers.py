"""`push`, `pull`, `list` and `verify` on hubs of a toy opener; real hubs are tested where the plugin is."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from matmosaic import plugins
from matmosaic.exceptions import StoreError
from matmosaic.modules import DirectoryStore


class Hub(DirectoryStore):
    """A directory of modules to which an index is added, by which a hub is told."""

    def publish(self, module):
        self.save(module)
        (self.path / "index.json").touch()
        return True

    def load(self, name):
        if name == "emt-pressure":
            raise StoreError("It is not cached, and the network is not to be used.")
        return super().load(name)


class Opener:
    """Knows the hub `lab`, and folders by their URLs."""

    lab: Path

    def names(self):
        return ["lab"]

    def open(self, location):
        return Hub(self.lab if location == "lab" else url2pathname(urlsplit(location).path))


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """Folder of the hub `lab`; the current directory is empty."""
    monkeypatch.setattr(Opener, "lab", tmp_path / "shared" / "lab", raising=False)
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda kind: ["hub"] if kind == "openers" else names(kind))
    monkeypatch.setattr(
        plugins, "load", lambda kind, *name: Opener if kind == "openers" else load(kind, *name)
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Opener.lab


@pytest.fixture
def push(run):
    return lambda reference, hub: run("modules", "push", reference, hub)


# --- where to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["push", "bundled:emt-volume"], ["pull", "bundled:emt-volume", "--to"]])
def test_no_place_is_not_the_current_directory(run, command):
    outcome = run("modules", *command, "")
    assert (outcome.status, outcome.out) == (2, "")
    assert "must be a hub, such as 'lab:' or a URL, or a folder. Got ''." in outcome.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", [["push", "bundled:emt-volume"], ["pull", "bundled:emt-volume", "--to"]])
@pytest.mark.parametrize("name", ["lab", "bundled"])
def test_name_without_colon_is_not_a_folder(run, command, name):
    outcome = run("modules", *command, name)
    assert (outcome.status, outcome.out) == (2, "")
    assert f"write '{name}:' for that, or './{name}' for a folder" in outcome.err
    assert list(Path().iterdir()) == []


def test_folder_of_the_name_of_a_hub(push, lab):
    assert push("bundled:emt-volume", "./lab").status == 0
    assert Path("lab/emt-volume/card.json").exists()
    assert push("bundled:emt-eform", "lab").status == 0  # there is one now
    assert Path("lab/emt-eform/card.json").exists()
    assert not lab.exists()


@pytest.mark.parametrize(("hub", "alone"), [("lab:x", "lab:"), ("file:///hub#x", "file:///hub")])
def test_several_modules_under_one_name(push, hub, alone):
    outcome = push("bundled:emt-*", hub)
    assert outcome.status == 2
    assert (
        f"'{hub}' names one module, but 'bundled:emt-*' stands for 4; write '{alone}' alone." in outcome.err
    )


def test_folder_has_one_address(run, push, tmp_path):
    url = (tmp_path / "hub").resolve().as_uri()
    outcome = push("bundled:emt-volume", "../hub")
    assert outcome.out == f"bundled:emt-volume -> {url}#emt-volume@1\n"
    (entry,) = run("modules", "list", "../hub", "--json").document["modules"]
    assert entry["reference"] == f"{url}#emt-volume"
    lines = run("modules", "list", url).out.splitlines()
    assert lines[-1].startswith(f"{url}#emt-volume ")  # whole, to be copied


# --- what is there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["list", "show", "verify", "pull"])
def test_forgotten_colon(run, action):
    outcome = run("modules", action, "lab")
    assert (outcome.status, outcome.out) == (2, "")
    assert "write 'lab:NAME' for one of its modules, 'lab:*' for all." in outcome.err


def test_module_that_is_not_cached_is_unavailable(run, push):
    assert push("bundled:emt-*", "lab:").status == 0
    outcome = run("modules", "verify", "lab:", "--json")
    states = {entry["reference"]: entry["state"] for entry in outcome.document["modules"]}
    assert outcome.status == 1
    assert states.pop("lab:emt-pressure") == "unavailable"
    assert set(states.values()) == {"intact"}
    assert "damaged" not in run("modules", "verify", "lab:").out
