"""The pages on plugins can be followed: their commands and Python run, and show what `plugins new` writes."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from matmosaic.cli import main

PAGES = Path(__file__).resolve().parents[1] / "docs" / "plugins"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = ("backbone", "featurizer", "store")


def blocks(page):
    return BLOCK.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))


def code(text):
    """Return the lines of a text that are not blank."""
    return "\n".join(line for line in text.splitlines() if line.strip())


@pytest.fixture
def follow(tmp_path, monkeypatch, install_source):
    """Return a function that does in an empty folder what a page says, and returns the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOY_MODULES", "modules.sqlite")

    def command(line):
        words = shlex.split(line)
        if words[0] == "matmosaic":
            assert main(words[1:]) == 0, line
        elif words[:3] == ["pip", "install", "-e"]:
            install_source(tmp_path / words[3].removesuffix("[test]"))
        else:  # that these tests pass is a test of `plugins new`
            assert words[:3] == ["python", "-m", "pytest"], line
            assert (tmp_path / words[3] / "tests").is_dir()

    def follow(page):
        parts = [
            text if kind == "python" else "".join(f"command({line!r})\n" for line in text.splitlines())
            for kind, text in blocks(page)
        ]
        script = tmp_path / "page.py"
        script.write_text("\n".join(parts), encoding="utf-8")
        runpy.run_path(str(script), init_globals={"command": command}, run_name="__main__")
        return tmp_path

    return follow


def test_the_first_page_can_be_followed(follow, capsys):
    assert (follow("index") / "matmosaic-toy" / "src" / "matmosaic_toy" / "backbone.py").exists()
    assert re.search(r"^matmosaic.backbones +toy +matmosaic-toy +0.1.0 +yes$", capsys.readouterr().out, re.M)


def test_the_page_on_backbones_can_be_followed(follow, capsys):
    assert (follow("backbone") / "my-modules" / "bulk-modulus" / "card.json").exists()
    printed = capsys.readouterr().out
    assert "list every argument in options()" in printed
    assert float(re.search(r"^R2 ([0-9.]+)$", printed, re.M).group(1)) > 0.5


def test_the_page_on_featurizers_can_be_followed(follow, capsys):
    follow("featurizer")
    printed = capsys.readouterr().out
    assert "toyfeaturizer__cutoff" in printed
    assert "Features depend on where the origin is; use distances rather than coordinates" in printed
    assert "{'emt-volume': 0." in printed


def test_the_page_on_stores_can_be_followed(follow, capsys):
    assert (follow("store") / "modules.sqlite").exists()
    printed = capsys.readouterr().out
    assert "card() of an unknown name must raise UnknownNameError. Got TypeError; wrap it." in printed
    assert re.search(r"^toy:emt-volume ", printed, re.M)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_the_file_that_is_written(tmp_path, kind):
    assert main(["plugins", "new", "toy", "--kind", kind, "--output", str(tmp_path / "new")]) == 0
    written = (tmp_path / "new" / "src" / "matmosaic_toy" / f"{kind}.py").read_text(encoding="utf-8")
    _, _, below_docstring = written.split('"""', 2)
    shown = "\n".join(text for language, text in blocks(kind) if language == "python")
    assert code(below_docstring) in code(shown)
