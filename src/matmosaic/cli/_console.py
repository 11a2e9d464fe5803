"""What commands write: results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

# Options that are called as parameters in Python, of which messages speak.
_PARAMETERS = (
    "aggregation",
    "combine",
    "device",
    "guard",
    "head",
    "kind",
    "n_active",
    "overwrite",
    "unfrozen",
    "width",
)


class Result(NamedTuple):
    """What a command found."""

    document: dict[str, Any]
    """For ``--json``."""
    text: str
    """For people."""
    status: int = 0
    """Exit status of the process."""


@contextlib.contextmanager
def console(arguments: argparse.Namespace) -> Iterator[None]:
    """Send warnings and logs to stderr, a line each, for the time of a command.

    Also sets ``arguments.progress``: whether to show progress bars.
    """
    arguments.progress = sys.stderr.isatty() and not arguments.json
    logger = logging.getLogger("matmosaic")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(_level(arguments))
    try:
        with warnings.catch_warnings():
            _show_warnings_as_lines(arguments)
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _level(arguments: argparse.Namespace) -> int:
    if arguments.debug:
        return logging.DEBUG
    return logging.INFO if arguments.verbose else logging.WARNING


def with_options(message: str, arguments: argparse.Namespace) -> str:
    """Return a message with ``--head new`` for ``head='new'``, where the command has that option."""
    known = "|".join(name for name in _PARAMETERS if hasattr(arguments, name))
    return re.sub(rf"(?<![\w-])({known})=(?:'([^']*)'|(\w+))", _option, message) if known else message


def _option(match: re.Match[str]) -> str:
    name, text, word = match.groups()
    option = f"--{name.replace('_', '-')}"
    return option if word == "True" else f"{option} {text or word}"


def _show_warnings_as_lines(arguments: argparse.Namespace) -> None:
    """Print matmosaic's and other libraries' warnings; what is for programmers only stays hidden."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        line_of_text = " ".join(str(message).split())
        print("warning:", with_options(line_of_text, arguments), file=sys.stderr)

    warnings.showwarning = show
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)


def write(result: Result, arguments: argparse.Namespace) -> None:
    """Write a result to stdout: one JSON document with ``--json``, else text."""
    if arguments.json:
        # ASCII, so that no terminal or pipe of any encoding can fail on it.
        text = json.dumps(_finite(result.document), indent=2, allow_nan=False)
    else:
        text = _encodable(result.text)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def _encodable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def _finite(value: Any) -> Any:
    """Return a JSON value with null in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
