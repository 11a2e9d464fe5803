"""``matmosaic hubs``: names for the addresses of hubs."""

from __future__ import annotations

import argparse
from typing import Any

from matmosaic.cli._arguments import add_command, key_value
from matmosaic.cli._console import Result
from matmosaic.cli._text import table


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command and what it can do."""
    parser = subparsers.add_parser(
        "hubs",
        help="name the addresses of hubs",
        description="Name the addresses of hubs, for references such as lab:emt-eform.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_add(actions, common)
    add_command(actions, "list", common, help="list the names").set_defaults(run=run_list)
    remove = add_command(actions, "remove", common, help="forget a name")
    remove.add_argument("name", metavar="NAME", help="a name that `hubs list` shows")
    remove.set_defaults(run=run_remove)


def _add_add(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(actions, "add", common, help="give a name to an address, in place of an earlier one")
    parser.add_argument("name", metavar="NAME", help="such as lab, for references such as lab:emt-eform")
    parser.add_argument(
        "url", metavar="URL", help="address of the hub's folder, such as s3://bucket/hub, without credentials"
    )
    parser.add_argument(
        "--option",
        dest="options",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the fsspec file system, such as endpoint_url=https://s3.example.org; no credentials",
    )
    parser.set_defaults(run=run_add)


def run_add(arguments: argparse.Namespace) -> Result:
    """Keep an address under a name."""
    path = _opener().add(arguments.name, arguments.url, dict(arguments.options))
    hub = _opener().hubs()[arguments.name]
    text = f"{arguments.name}: is {hub['url']}, written to {path}"
    return Result({"name": arguments.name, **hub, "file": path}, text)


def run_list(arguments: argparse.Namespace) -> Result:
    """List names and addresses."""
    hubs = _opener().hubs()
    rows = [[f"{name}:", hub["url"]] for name, hub in hubs.items()]
    document = {"hubs": [{"name": name, **hub} for name, hub in hubs.items()]}
    return Result(document, _text(rows))


def _text(rows: list[list[str]]) -> str:
    headers = ["hub", "address"]
    return table(headers, rows, whole=headers) if rows else "No hub has a name"


def run_remove(arguments: argparse.Namespace) -> Result:
    """Forget a name."""
    path = _opener().remove(arguments.name)
    return Result({"name": arguments.name, "file": path}, f"{arguments.name}: was removed from {path}")


def _opener() -> Any:
    from matmosaic.modules.opening import store_opener

    return store_opener("Names of hubs")
