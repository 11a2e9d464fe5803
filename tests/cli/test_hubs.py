"""`hubs`, `push` and `pull` without the plugin; with it, they are tested where the plugin is."""

import pytest

from matmosaic import plugins


@pytest.fixture(autouse=True)
def _no_opener(monkeypatch):
    names = plugins.names
    monkeypatch.setattr(plugins, "names", lambda kind: [] if kind == "openers" else names(kind))


@pytest.mark.parametrize(
    "command",
    [
        ["hubs", "list"],
        ["hubs", "add", "lab", "s3://bucket/hub"],
        ["modules", "list", "s3://bucket/hub"],
        ["modules", "push", "bundled:emt-volume", "s3://bucket/hub"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_plugin_is_named(run, command):
    outcome = run(*command)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.endswith("need the plugin for hubs; install it: pip install matmosaic-hub.\n")


def test_pull_copies_from_any_store(run, tmp_path):
    outcome = run("modules", "pull", "bundled:emt-volume", "--to", tmp_path / "mine", "--json")
    assert outcome.document["modules"] == [
        {"reference": "bundled:emt-volume", "to": str(tmp_path / "mine" / "emt-volume"), "new": True}
    ]
    again = run("modules", "pull", "bundled:emt-volume", "--to", tmp_path / "mine")
    assert again.out.endswith("emt-volume (was there)\n")
