"""docs/cli.md tells the truth: its commands run and print what it says, and it names every option.

``python tests/cli/test_docs.py`` writes the outputs anew.
"""

import contextlib
import io
import os
import re
import shlex
import tempfile
from pathlib import Path

import pytest

from matmosaic.cli import main
from matmosaic.cli._main import build_parser
from matmosaic.modules.importers import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
FENCE = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMON = {"--json", "--device", "--seed", "--verbose", "--debug", "--help", "--version"}
OF_DATA = {"--structure"}  # described once, with DATA


def sections():
    """Return the text of the page's sections on commands, by command."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title: text for title, text in zip(parts[1::2], parts[2::2], strict=True) if title[0].islower()}


def leaves(parser, name=()):
    """Return the parsers of all commands by name, such as ``"modules list"``."""
    children = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    own = {" ".join(name): parser} if parser.get_default("run") or not children else {}
    found = [leaves(child, (*name, key)) for key, child in (children[0] if children else {}).items()]
    return own | {key: leaf for one in found for key, leaf in one.items()}


PARSERS = leaves(build_parser())


def blocks(text):
    """Yield (command, output) of each example that is to be run."""
    for kind, block in FENCE.findall(text):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:] if kind == "console" else []:
            command, _, output = example.partition("\n")
            yield command, output


def execute(command):
    """Return the standard output of a command, long ones cut as on the page."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(shlex.split(command)[1:]) == 0
    lines = out.getvalue().splitlines()
    if "-o -" in command:
        lines = [*lines[:3], "..."]
    return "\n".join(lines) + "\n"


def shape(output):
    """Return the lines without what differs between machines: digits, widths, order of rows."""
    plain = re.sub(r"[0-9a-f]{64}|-?\d+(\.\d+)?(e[+-]\d+)?", "#", output)
    lines = [re.sub(r"-{2,}|\bbest$", "", line).split() for line in plain.splitlines()]
    return sorted(" ".join(line) for line in lines if line)


def check(commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, output in commands:
        assert shape(execute(command)) == shape(output), f"{command}: run `python tests/cli/test_docs.py`"


EXAMPLES = list(blocks(PAGE.read_text(encoding="utf-8")))


def test_examples_print_what_the_page_says(tmp_path, monkeypatch):
    quick = [example for example in EXAMPLES if example[0] != "matmosaic demo"]
    assert len(quick) == len(EXAMPLES) - 1 >= 8
    check(quick, tmp_path, monkeypatch)


@pytest.mark.slow
def test_demo_prints_what_the_page_says(tmp_path, monkeypatch):
    check([example for example in EXAMPLES if example[0] == "matmosaic demo"], tmp_path, monkeypatch)


def test_a_wrong_output_is_found(tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="matmosaic plugins: run"):
        check([("matmosaic plugins", "group  name\n")], tmp_path, monkeypatch)


def test_every_command_has_a_section():
    assert set(sections()) == set(PARSERS)


@pytest.mark.parametrize("name", PARSERS)
def test_section_names_every_option_and_no_other(name):
    text = FENCE.sub("", sections()[name])
    own = set(PARSERS[name]._option_string_actions) - COMMON - OF_DATA - {"-h"}
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert own <= named
    assert {option for option in named if option.startswith("--")} <= own | COMMON


def test_every_format_of_checkpoints_is_named():
    named = re.findall(r"`(\w+)`", sections()["modules import"].split("`--format NAME`:")[1].split("\n- ")[0])
    assert set(named) == set(FORMATS)


@pytest.mark.parametrize(
    "block", [block for kind, block in FENCE.findall(PAGE.read_text(encoding="utf-8")) if kind == "sh"]
)
def test_commands_that_are_not_run_can_be_parsed(block):
    for line in block.splitlines():
        assert build_parser().parse_args(shlex.split(line)[1:]).run


def rewrite():
    """Write the outputs of all examples into the page."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        back = Path.cwd()
        os.chdir(folder)
        for command, output in blocks(page):
            page = page.replace(f"$ {command}\n{output}", f"$ {command}\n{execute(command)}", 1)
        os.chdir(back)
    PAGE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    rewrite()
