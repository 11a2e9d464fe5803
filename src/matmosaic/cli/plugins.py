"""``matmosaic plugins``: every plugin found, and whether it works; ``plugins new`` starts another one."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import add_command, common_options
from matmosaic.cli._console import Result
from matmosaic.cli._text import table

if TYPE_CHECKING:
    from matmosaic.plugins import PluginInfo

FAILED = 1
KINDS = ("backbone", "featurizer", "store")
HEALTH = {None: "not checked", True: "yes", False: "no"}


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "plugins",
        common,
        help="list backbones, featurizers and stores that are installed",
        description="List every plugin found: group, name, distribution, version, healthy or why not. "
        "Nothing is imported unless --check is given. `matmosaic plugins new` starts a plugin of your own.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="import and make each plugin to learn whether it works; status 1 if one does not",
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    _add_new(actions)


def _add_new(actions: Any) -> None:
    parser = add_command(
        actions,
        "new",
        common_options(nested=True),
        help="write a small, working, tested package with a plugin, to change into your own",
    )
    parser.add_argument("name", metavar="NAME", help="of the plugin, as its users are to write it")
    parser.add_argument("--kind", choices=KINDS, required=True, help="what it is")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="directory to make (default: matmosaic-NAME)"
    )
    parser.set_defaults(run=run_new)


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


def run_new(arguments: argparse.Namespace) -> Result:
    """Write the package of a new plugin."""
    from matmosaic.cli._new_plugin import write_package
    from matmosaic.exceptions import InvalidParameterError

    if arguments.check:
        raise InvalidParameterError(
            "--check lists plugins and goes with no action. Got it with 'new'; leave it out, and run "
            "`matmosaic plugins --check` when the package is installed."
        )

    directory, written = write_package(arguments.name, arguments.kind, arguments.output)
    document = {"directory": str(directory), "kind": arguments.kind, "files": written}
    return Result(document, _new_text(directory, written))


def _new_text(directory: Path, written: list[str]) -> str:
    return "\n".join(
        [
            f"Wrote {directory}:",
            *(f"  {name}" for name in written),
            "Next, in that directory:",
            '  pip install -e ".[test]"',
            "  python -m pytest",
            "  matmosaic plugins --check",
        ]
    )
