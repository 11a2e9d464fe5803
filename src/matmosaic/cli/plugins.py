"""``matmosaic plugins``: every plugin found, and whether it works."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import add_command
from matmosaic.cli._console import Result
from matmosaic.cli._text import table

if TYPE_CHECKING:
    from matmosaic.plugins import PluginInfo

FAILED = 1
HEALTH = {None: "not checked", True: "yes", False: "no"}


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "plugins",
        common,
        help="list backbones, featurizers and stores that are installed",
        description="List every plugin found: group, name, distribution, version, healthy or why not. "
        "Nothing is imported unless --check is given.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="import each plugin to learn whether it works; status 1 if one does not",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Result:
    """List the plugins."""
    from matmosaic.plugins import list_plugins

    found = list_plugins(check=arguments.check)
    document = {"plugins": [asdict(plugin) for plugin in found]}
    broken = any(plugin.healthy is False for plugin in found)
    return Result(document, _text(found), FAILED if arguments.check and broken else 0)


def _text(found: list[PluginInfo]) -> str:
    headers = ["group", "name", "distribution", "version", "healthy"]
    rows = [[p.group, p.name, p.distribution, p.version, HEALTH[p.healthy]] for p in found]
    reasons = [f"{plugin.group} {plugin.name}: {plugin.reason}" for plugin in found if plugin.reason]
    return "\n".join([table(headers, rows), *reasons])
