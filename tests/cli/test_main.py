"""What holds for every command: exit status, one message, no torch where none is needed."""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings

import pytest

from matmosaic._version import __version__
from matmosaic.cli import _main
from matmosaic.cli._console import Result, with_options
from matmosaic.cli._main import build_parser
from matmosaic.exceptions import DeviceMemoryError, InvalidParameterError, IsolatedAtomWarning

HEAVY = "{'torch', 'torch_geometric', 'sklearn', 'skorch', 'pymatgen', 'ase', 'matminer'}"
COMMANDS = ["demo", "fit", "predict", "evaluate", "pretrain", "modules", "plugins"]


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


@pytest.fixture
def failing(monkeypatch):
    """Return a function that makes `plugins` do something else."""

    def failing(function):
        monkeypatch.setattr("matmosaic.plugins.list_plugins", function)

    return failing


def raising(error):
    def fail(**options):
        raise error

    return fail


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([command, "--help"] for command in COMMANDS),
        ["plugins"],
        ["plugins", "--json"],
        ["modules", "list"],
        ["modules", "show", "bundled:emt-volume", "--json"],
    ],
    ids=" ".join,
)
def test_needs_no_torch(arguments):
    code = (
        f"import sys; from matmosaic.cli import main; status = main({arguments!r}); "
        f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    result = python("-c", code)
    assert (result.returncode, result.stderr.strip()) == (0, "[]")
    assert result.stdout


def test_help_is_quick():
    def seconds():
        start = time.perf_counter()
        python("-m", "matmosaic", "--help")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


def test_module_and_version():
    result = python("-m", "matmosaic", "--version")
    assert (result.returncode, result.stdout.strip()) == (0, f"matmosaic {__version__}")


def test_help_names_every_command(run):
    outcome = run("--help")
    assert outcome.status == 0
    assert all(f"  {command} " in outcome.out for command in COMMANDS)


def test_without_command_help_goes_to_stderr(run):
    outcome = run()
    assert (outcome.status, outcome.out) == (2, "")
    assert "commands:" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], "invalid choice: 'fti'"),
        (["modules"], "required: ACTION"),
        (["fit", "data.json", "-o", "model"], "required: --target"),
        (["plugins", "--chek"], "unrecognized arguments: --chek"),
        (["plugins", "--seed", "-1"], "expected a whole number >= 0, got '-1'"),
        (["plugins", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["demo", "--splits", "0"], "expected a whole number >= 1, got '0'"),
    ],
)
def test_bad_usage(run, arguments, message):
    outcome = run(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidParameterError("'x' must be 1."), 2, "error: 'x' must be 1.\n"),
        (DeviceMemoryError("Lower 'batch_size'."), 1, "error: Lower 'batch_size'.\n"),
        (
            TypeError("no way"),
            1,
            "error: unexpected TypeError: no way. Run again with --debug to see where, and report it.\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_is_one_message(run, failing, error, status, message):
    failing(raising(error))
    assert run("plugins") == (status, "", message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Use head='new'.", "Use --head new."),
        ("Set n_active=2, or pass overwrite=True.", "Set --n-active 2, or pass --overwrite."),
        ("Use kind='full', or --head=x.", "Use kind='full', or --head=x."),  # fit has no --kind
        ("The parameter ahead='new' of module=None", "The parameter ahead='new' of module=None"),
    ],
)
def test_messages_name_the_options_of_the_command(message, expected):
    arguments = build_parser().parse_args(["fit", "DATA", "--target", "y", "-o", "model"])
    assert with_options(message, arguments) == expected


def test_debug_shows_the_traceback(run, failing):
    failing(raising(InvalidParameterError("'x' must be 1.")))
    outcome = run("plugins", "--debug")
    assert outcome.status == 2
    assert "Traceback" in outcome.err
    assert outcome.err.endswith("error: 'x' must be 1.\n")


def test_process_ends_with_the_status_and_no_traceback():
    result = python("-m", "matmosaic", "modules", "show", "no/such")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: There is no module at")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("default")
def test_warning_is_one_line(run, failing):
    def warn(**options):
        warnings.warn("Row 3\nis odd.", IsolatedAtomWarning, stacklevel=1)
        warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
        return []

    before = warnings.showwarning
    failing(warn)
    assert run("plugins").err == "warning: Row 3 is odd.\n"
    assert warnings.showwarning is before


def test_what_libraries_print_stays_off_stdout(run, failing):
    failing(lambda **options: print("chatter") or [])
    outcome = run("plugins", "--json")
    assert outcome.document == {"plugins": []}
    assert outcome.err == "chatter\n"


def test_reader_that_leaves_a_pipe_is_no_traceback(data):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "matmosaic", "plugins"]
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        _, err = process.communicate()
    assert (process.returncode, err) == (1, "")


def test_json_is_ascii_without_nan(run, monkeypatch):
    result = Result({"unit": "Å3/atom", "r2": float("nan"), "list": [(1.0, float("inf"))]}, "")
    monkeypatch.setattr("matmosaic.cli.plugins._text", lambda found: "")
    monkeypatch.setattr("matmosaic.cli.plugins.Result", lambda *parts: result)
    outcome = run("plugins", "--json")
    assert outcome.out.isascii()
    assert json.loads(outcome.out) == {"unit": "Å3/atom", "r2": None, "list": [[1.0, None]]}


def leaves(parser):
    """Yield the parsers of all commands and actions."""
    actions = [
        action for action in parser._actions if hasattr(action, "choices") and action.nargs == argparse.PARSER
    ]
    if not actions:
        yield parser
    for action in actions:
        for child in action.choices.values():
            yield from leaves(child)


@pytest.mark.parametrize("parser", list(leaves(_main.build_parser())), ids=lambda parser: parser.prog)
def test_every_command_takes_the_common_options(parser):
    assert {"--json", "--device", "--seed", "--verbose", "--debug"} <= set(parser._option_string_actions)
    assert parser.get_default("run") is not None
    assert not parser.allow_abbrev
