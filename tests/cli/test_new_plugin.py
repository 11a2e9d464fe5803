"""The package that `matmosaic plugins new` writes works as it is, whatever the name."""

import inspect
import runpy
import subprocess
import sys
from importlib.resources import files

import pytest

from matmosaic import plugins
from matmosaic.cli import _new_plugin
from matmosaic.cli.plugins import KINDS

LONGEST = "abcdefghijklmnopqrstuvwxyz-789"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_the_package_pass_as_generated(run, tmp_path, monkeypatch, install_source, kind):
    """In this process, for speed; tests/test_from_outside.py runs pytest in an environment of its own."""
    assert run("plugins", "new", f"toy-{kind}", "--kind", kind).status == 0
    folder = tmp_path / f"matmosaic-toy-{kind}"
    install_source(folder)
    tests = runpy.run_path(str(folder / "tests" / f"test_{kind}.py"))
    functions = [value for name, value in tests.items() if name.startswith("test_")]
    assert len(functions) >= 3
    for number, function in enumerate(functions):
        (tmp_path / str(number)).mkdir()
        fixtures = {"tmp_path": tmp_path / str(number), "monkeypatch": monkeypatch}
        function(**{name: fixtures[name] for name in inspect.signature(function).parameters})
    listed = [plugin for plugin in plugins.list_plugins(check=True) if plugin.name == f"toy-{kind}"]
    assert [plugin.healthy for plugin in listed] == [True]


@pytest.mark.parametrize("name", ["xy", LONGEST, *KINDS[::2], "my-featurizer"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_package_is_clean_for_ruff(run, tmp_path, kind, name):
    folder = tmp_path / "package"
    assert run("plugins", "new", name, "--kind", kind, "--output", folder).status == 0
    for command in (["check"], ["format", "--check", "--diff"]):
        shown = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=folder, capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_package_is_typed(run, tmp_path, kind):
    assert run("plugins", "new", "toy", "--kind", kind).status == 0
    shown = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=tmp_path / "matmosaic-toy", capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr


def test_what_was_written_is_listed(run, tmp_path):
    outcome = run("plugins", "--json", "new", "Gap_Net", "--kind", "backbone")
    assert outcome.document["directory"] == "matmosaic-gap-net"
    folder = tmp_path / "matmosaic-gap-net"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == set(outcome.document["files"])
    assert "src/matmosaic_gap_net/backbone.py" in written
    assert "class GapNetBackbone(Backbone)" in (folder / "src/matmosaic_gap_net/backbone.py").read_text()
    assert not [path for path in written if "$" in (folder / path).read_text(encoding="utf-8")]


def test_text_says_what_to_do_next(run):
    lines = run("plugins", "new", "toy", "--kind", "store").out.splitlines()
    assert lines[0] == "Wrote matmosaic-toy:"
    assert lines[-3:] == ['  pip install -e ".[test]"', "  python -m pytest", "  matmosaic plugins --check"]


@pytest.mark.parametrize(
    "name", ["", "x", "-x", "x-", "1x", "a/b", "a b", "../x", "caf\u00e9", "matmosaic-", "x" * 31, "con."]
)
def test_name_that_cannot_be_one(run, tmp_path, name):
    outcome = run("plugins", "new", "--kind", "store", "--", name)
    assert outcome.status == 2
    assert "NAME must be 2 to 30 of the letters a to z" in outcome.err
    assert repr(name) in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_name_of_an_installed_plugin_is_taken(run, tmp_path):
    outcome = run("plugins", "new", "CGCNN", "--kind", "backbone")
    assert outcome.status == 2
    assert "NAME 'cgcnn' is taken: 'matmosaic', which is installed, declares it" in outcome.err
    assert run("plugins", "new", "cgcnn", "--kind", "store").status == 0  # another kind


@pytest.mark.parametrize("name", ["hub", "CHGNet", "matminer", "matmosaic_schnet"])
def test_name_of_a_distribution_of_ours_is_taken(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(_new_plugin, "_is_installed", lambda distribution: False)
    outcome = run("plugins", "new", name, "--kind", "store")
    assert outcome.status == 2
    assert "is matmosaic's own; choose another one" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_name_of_an_installed_distribution_is_taken(run, tmp_path, monkeypatch):
    info = tmp_path / "site" / "matmosaic_Rock.Salt-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: matmosaic_Rock.Salt\nVersion: 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    outcome = run("plugins", "new", "rock-salt", "--kind", "store")
    assert outcome.status == 2
    assert "the distribution 'matmosaic-rock-salt' is installed already" in outcome.err


@pytest.mark.parametrize("name", ["https", "s3", "file", "hf"])
def test_store_that_looks_like_an_address(run, name):
    outcome = run("plugins", "new", name, "--kind", "store")
    assert outcome.status == 2
    assert f"NAME must not be '{name}', with which addresses begin" in outcome.err
    assert run("plugins", "new", name, "--kind", "backbone").status == 0


def test_check_is_not_passed_over(run, tmp_path):
    outcome = run("plugins", "--check", "new", "toy", "--kind", "store")
    assert outcome.status == 2
    assert "--check lists plugins and goes with no action" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_name_that_is_ambiguous_in_references(run):
    outcome = run("plugins", "new", "featurizer", "--kind", "store")
    assert outcome.status == 2
    assert "with which references to featurizers begin" in outcome.err


def test_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "matmosaic-toy").mkdir()
    (tmp_path / "matmosaic-toy" / "mine.txt").write_text("mine", encoding="utf-8")
    outcome = run("plugins", "new", "toy", "--kind", "store")
    assert outcome.status == 2
    assert "matmosaic-toy exists; nothing was written. Choose another NAME, or a directory by" in outcome.err
    assert [path.name for path in (tmp_path / "matmosaic-toy").iterdir()] == ["mine.txt"]
    assert run("plugins", "new", "toy", "--kind", "store", "--output", "new/place").status == 0
    assert (tmp_path / "new" / "place" / "pyproject.toml").exists()


def test_directory_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    outcome = run("plugins", "new", "toy", "--kind", "store", "--output", "file/inside")
    assert outcome.status == 2
    assert "cannot be made" in outcome.err or "exists" in outcome.err


def test_half_a_package_is_removed(tmp_path, monkeypatch):
    texts = {"first.txt": "x", "second.txt": None}
    with pytest.raises(TypeError):
        _new_plugin._write(tmp_path / "package", texts)
    assert list(tmp_path.iterdir()) == []


def test_kinds_of_the_command_are_those_with_templates():
    folders = {path.name for path in (files("matmosaic.cli") / "templates").iterdir()}
    assert set(KINDS) == set(_new_plugin.KINDS) == folders - {"package"}
