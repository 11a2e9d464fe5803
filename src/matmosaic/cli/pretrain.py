"""``matmosaic pretrain``: train a module on plentiful labels and keep it in a store."""

from __future__ import annotations

import argparse
import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import MODULE_HELP, add_command, add_data, add_epochs, key_value, separated
from matmosaic.cli._console import Result
from matmosaic.exceptions import InvalidParameterError, StoreError, UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.modules import ModuleCard

DEFAULT_BACKBONE = "cgcnn"


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "pretrain",
        common,
        help="train a module on plentiful labels, for others to start from",
        description="Train a network on a property with plentiful labels, or on several at once, and keep it "
        "in a store as a module, for later fits to start from.",
    )
    add_data(parser, target_help="column of the labels, or several with commas between; cells may be empty")
    parser.add_argument(
        "--unit", required=True, help="unit of the labels, for the module's card; of several in their order"
    )
    parser.add_argument("--store", required=True, metavar="DIR", help="directory of modules; made if needed")
    parser.add_argument("--name", required=True, help="of the module, and of its directory in the store")
    parser.add_argument("--overwrite", action="store_true", help="replace a module of that name")
    parser.add_argument("--backbone", metavar="NAME", help=f"kind of network (default: {DEFAULT_BACKBONE})")
    parser.add_argument(
        "--backbone-option",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="of the network, such as width=32; may be given more than once",
    )
    parser.add_argument("--start", metavar="REF", help=f"train this module further: {MODULE_HELP}")
    parser.add_argument(
        "--kind",
        choices=("full", "adapter"),
        default="full",
        help="train and keep the whole network, or adapters between the layers of --start, which stay as "
        "they are and are not kept again (default: full)",
    )
    add_epochs(parser)
    _add_card(parser)
    parser.set_defaults(run=run)


def _add_card(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for the module's card")
    group.add_argument("--license-weights", metavar="SPDX", help="licence that you give the weights")
    group.add_argument("--dataset-name", metavar="TEXT", help="name of DATA")
    group.add_argument("--dataset-doi", metavar="DOI", help="DOI of DATA")


def run(arguments: argparse.Namespace) -> Result:
    """Train, and save the module."""
    from matmosaic.cli._data import read_properties
    from matmosaic.cli._training import stopping_at_interrupt
    from matmosaic.cli.fit import describe_fit, text_of_fit
    from matmosaic.modules import DirectoryStore

    store = DirectoryStore(arguments.store)
    _check_free(store, arguments.name, overwrite=arguments.overwrite)
    _check_network(arguments)
    data = read_properties(arguments)
    targets = list(data.y) if data.y.ndim > 1 else [data.y.name]
    units = _units(arguments.unit, targets)
    estimator = _estimator(arguments, several=data.y.ndim > 1)
    start = time.perf_counter()
    with stopping_at_interrupt():  # a store holds no half-trained modules
        estimator.fit(data.structures, data.y)
    seconds = time.perf_counter() - start
    module = _module(estimator, arguments, targets, units)
    store.save(module, overwrite=arguments.overwrite)
    reference = str(Path(arguments.store) / arguments.name)
    document = {
        "module": reference,
        "backbone": module.card.backbone,
        "start": arguments.start,
        "sha256": module.card.sha256,
        "kind": module.card.kind,
        **describe_fit(estimator, data, arguments.target, seconds),
        **_describe_properties(module.card),
    }
    text = (
        f"{text_of_fit(document)}\nSaved {reference}; start from it with:\n"
        f"  matmosaic fit DATA --target COLUMN --module {reference} -o MODEL"
    )
    return Result(document, text)


def _module(estimator: Any, arguments: argparse.Namespace, targets: list[str], units: list[str]) -> Any:
    """Return what was learnt, as a module of one property or of several."""
    several = len(targets) > 1
    return estimator.to_module(
        name=arguments.name,
        target=targets if several else targets[0],
        unit=units if several else units[0],
        dataset={"name": arguments.dataset_name, "doi": arguments.dataset_doi},
        license_weights=arguments.license_weights,
        kind=arguments.kind,
    )


def _units(text: str, targets: list[str]) -> list[str]:
    """Return the unit of each property."""
    units = [text] if len(targets) == 1 else separated(text, "--unit")
    if len(units) != len(targets):
        raise InvalidParameterError(
            f"--unit must name a unit for each of the {len(targets)} columns {targets}, in their order and "
            f"with commas between. Got {units}."
        )
    return units


def _describe_properties(card: ModuleCard) -> dict[str, Any]:
    """Return name, unit and validation error of each property, if there are several."""
    if not card.properties:
        return {}
    errors = [metric["value"] for metric in card.metrics] or [None] * len(card.properties)
    records = zip(card.properties, errors, strict=True)
    return {
        "properties": [
            {"name": one["name"], "unit": one["unit"], "valid_mae": error} for one, error in records
        ]
    }


def _estimator(arguments: argparse.Namespace, *, several: bool) -> Any:
    from matmosaic.cli._training import EpochProgress
    from matmosaic.estimators import MPTRegressor, TransferRegressor

    estimator = MPTRegressor if several else TransferRegressor
    return estimator(
        arguments.start,
        backbone=arguments.backbone or DEFAULT_BACKBONE,
        backbone_options=dict(arguments.backbone_option),
        unfrozen="adapters" if arguments.kind == "adapter" else "all",
        max_epochs=arguments.epochs,
        random_state=arguments.seed,
        device=arguments.device,
        callbacks=[EpochProgress(arguments.progress, None if several else arguments.unit)],
    )


def _check_network(arguments: argparse.Namespace) -> None:
    """Refuse a network that cannot be built before the data are read rather than after it."""
    from matmosaic import plugins

    if arguments.kind == "adapter" and not arguments.start:
        raise InvalidParameterError("--kind adapter trains adapters of a module; name it with --start.")
    if arguments.start and (arguments.backbone or arguments.backbone_option):
        raise InvalidParameterError(
            "--start brings its own network; leave out --backbone and --backbone-option."
        )
    backbone = arguments.backbone or DEFAULT_BACKBONE
    known = set(inspect.signature(plugins.load("backbones", backbone)).parameters) - {"graph_settings"}
    for name, _ in arguments.backbone_option:
        if name not in known:
            raise UnknownNameError(suggest(name, known, what=f"option of backbone {backbone!r}"))


def _check_free(store: Any, name: str, *, overwrite: bool) -> None:
    """Refuse a taken name before the work is done rather than after it."""
    from matmosaic.modules import check_module_name

    check_module_name(name)
    if not overwrite and store.path.is_dir() and name in store.names():
        raise StoreError(f"{store.path} holds a module {name!r}; choose another --name, or use --overwrite.")
