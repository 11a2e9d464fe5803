"""The parser of all commands, and what becomes of their results and errors."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from matmosaic._version import __version__
from matmosaic.cli._arguments import common_options
from matmosaic.cli._console import Result, console, with_options, write
from matmosaic.cli.demo import add as add_demo
from matmosaic.cli.evaluate import add as add_evaluate
from matmosaic.cli.fit import add as add_fit
from matmosaic.cli.hubs import add as add_hubs
from matmosaic.cli.modules import add as add_modules
from matmosaic.cli.plugins import add as add_plugins
from matmosaic.cli.predict import add as add_predict
from matmosaic.cli.pretrain import add as add_pretrain
from matmosaic.exceptions import DeviceMemoryError, MatmosaicError

# In the order of the help.
COMMANDS = (add_demo, add_fit, add_predict, add_evaluate, add_pretrain, add_modules, add_hubs, add_plugins)

DESCRIPTION = "Predict properties of crystals from few labels, by reusing pre-trained graph networks."
EPILOG = "`matmosaic demo` shows what it gains; `matmosaic COMMAND --help` explains a command."

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted.
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)
    if not hasattr(arguments, "run"):
        parser.print_help(sys.stderr)
        return BAD_INPUT
    with console(arguments):
        return _run(arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; parsed arguments carry the ``run`` function of their command."""
    parser = argparse.ArgumentParser(
        prog="matmosaic", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"matmosaic {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    common = common_options()
    for add in COMMANDS:
        add(subparsers, common)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; an error becomes one message on stderr and a status."""
    try:
        # Whatever a library prints must not mix with the result.
        with contextlib.redirect_stdout(sys.stderr):
            result: Result = arguments.run(arguments)
        write(result, arguments)
        return result.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return FAILED
    except Exception as error:  # the command line has no caller that could handle it
        return _report(error, arguments)


def _report(error: Exception, arguments: argparse.Namespace) -> int:
    if arguments.debug:
        traceback.print_exception(error)
    if isinstance(error, MatmosaicError):
        print(f"error: {with_options(str(error), arguments)}", file=sys.stderr)
        return FAILED if isinstance(error, DeviceMemoryError) else BAD_INPUT
    remedy = "" if arguments.debug else " Run again with --debug to see where, and report it."
    print(f"error: unexpected {type(error).__name__}: {error}.{remedy}", file=sys.stderr)
    return FAILED


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader of the pipe has left."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
