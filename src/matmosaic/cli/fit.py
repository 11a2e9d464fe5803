"""``matmosaic fit``: train an estimator on labelled structures and save it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import (
    FEATURIZER_HELP,
    REFERENCE_HELP,
    add_command,
    add_data,
    add_head,
    add_mixture,
    add_own_epochs,
    add_unfrozen,
)
from matmosaic.cli._console import Result
from matmosaic.cli._text import quantity
from matmosaic.exceptions import StoreError

if TYPE_CHECKING:
    from matmosaic.cli._data import LabelledData
    from matmosaic.cli._methods import Settings

INTERRUPTED = 130


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(subparsers, "fit", common, help="train on labelled structures and save the model")
    add_data(parser)
    parser.add_argument(
        "--estimator",
        metavar="NAME",
        help="scratch, transfer, probe, a kernel regressor on frozen features, moe, a mixture of modules, or "
        "composed, their mean; these three take bundled modules if none is named (default: scratch without "
        "--module, transfer with one, moe with several, probe with a featurizer)",
    )
    parser.add_argument(
        "--module",
        action="append",
        dest="modules",
        default=[],
        metavar="REF",
        help=f"{REFERENCE_HELP}; {FEATURIZER_HELP}; give it once for each module of a mixture",
    )
    parser.add_argument(
        "--modules", nargs="+", action="extend", metavar="REF", help="the same for several at once"
    )
    add_unfrozen(parser)
    add_head(parser)
    add_mixture(parser)
    add_own_epochs(parser)
    parser.add_argument("--unit", help="unit of the labels, for what is printed")
    parser.add_argument(
        "-o", "--output", required=True, metavar="MODEL", help="directory to save the model in"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Result:
    """Train and save; an interrupt ends training early and saves the best epoch until then."""
    import pandas as pd

    from matmosaic.cli._data import read_labelled
    from matmosaic.cli._methods import estimator_for
    from matmosaic.cli._mixture import describe_mixture
    from matmosaic.cli._probing import describe_probe

    method, estimator = estimator_for(arguments.estimator, arguments.modules, _settings(arguments))
    _check_free(Path(arguments.output), overwrite=arguments.overwrite)
    data = read_labelled(arguments)
    start = time.perf_counter()
    # Named, so that a module of several properties knows which head is meant.
    estimator.fit(data.structures, pd.Series(data.y, name=arguments.target))
    seconds = time.perf_counter() - start
    interrupted = method.trains_network and _is_interrupted(estimator)
    # Where it was trained says nothing about where it will be used.
    estimator.set_params(device="auto").save(
        arguments.output, target=arguments.target, unit=data.unit or "unknown", overwrite=arguments.overwrite
    )
    describe = describe_fit if method.trains_network else describe_probe
    document = {
        "model": arguments.output,
        "estimator": method.name,
        "modules": method.starts_from(arguments.modules),
        **describe(estimator, data, arguments.target, seconds),
        **describe_mixture(estimator),
    }
    unnamed = not arguments.modules
    return Result(document, _text(document, unnamed=unnamed), INTERRUPTED if interrupted else 0)


def _is_interrupted(estimator: Any) -> bool:
    """Return whether training ended early; raise KeyboardInterrupt if nothing was learnt to be saved."""
    interrupted = len(estimator.history_) < estimator.max_epochs
    if interrupted and estimator.history_.empty:
        raise KeyboardInterrupt
    return interrupted


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return what the command line says of the estimator."""
    from matmosaic.cli._data import unit_of
    from matmosaic.cli._methods import Settings
    from matmosaic.cli._training import EpochProgress

    return Settings(
        epochs=arguments.epochs,
        seed=arguments.seed,
        device=arguments.device,
        unfrozen=arguments.unfrozen,
        head=arguments.head,
        n_active=arguments.n_active,
        guard=arguments.guard,
        aggregation=arguments.aggregation,
        width=arguments.width,
        combine=arguments.combine,
        callbacks=[EpochProgress(arguments.progress, unit_of(arguments))],
    )


def describe_fit(estimator: Any, data: LabelledData, target: str, seconds: float) -> dict[str, Any]:
    """Return what is worth knowing about a fit, as JSON values."""
    history = estimator.history_
    validated = "valid_mae" in history and not history.empty
    return {
        "target": target,
        "unit": data.unit,
        "n_rows": len(data.y),
        "n_train": estimator.n_train_,
        "n_validation": len(data.y) - estimator.n_train_,
        "dropped_rows": data.dropped,
        "epochs": len(history),
        "best_epoch": estimator.best_epoch_,
        "valid_mae": float(history["valid_mae"].min()) if validated else None,
        "fit_seconds": seconds,
    }


def text_of_fit(document: dict[str, Any]) -> str:
    """Return the lines about a fit: rows, epochs, validation error."""
    dropped = (
        f" ({len(document['dropped_rows'])} without a label left out)" if document["dropped_rows"] else ""
    )
    lines = [
        f"Trained on {document['n_train']} rows of {document['target']}, {document['n_validation']} held out "
        f"for validation{dropped}.",
        f"{document['epochs']} epochs in {document['fit_seconds']:.1f} s.",
    ]
    if document["valid_mae"] is not None and "properties" in document:
        properties = document["properties"]
        errors = [f"{one['name']} {quantity(one['valid_mae'], one['unit'])}" for one in properties]
        lines.append(
            f"Validation MAE at epoch {document['best_epoch']}, the best of all, which is kept: "
            f"{', '.join(errors)}."
        )
    elif document["valid_mae"] is not None:
        error = quantity(document["valid_mae"], document["unit"])
        lines.append(f"Validation MAE {error} at epoch {document['best_epoch']}, the best, which is kept.")
    return "\n".join(lines)


def _check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a taken place before the work is done rather than after it."""
    if path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path} exists; choose another place with -o, or replace a model with --overwrite.")


def _text(document: dict[str, Any], *, unnamed: bool) -> str:
    from matmosaic.cli._mixture import text_of_mixture
    from matmosaic.cli._probing import text_of_probe

    model = document["model"]
    saved = f"Saved {model}; use it with:\n  matmosaic predict {model} DATA -o FILE.csv"
    told = text_of_mixture(document)
    mixture = f"\n\n{told}\n\n" if told else "\n"
    probe = "sources" in document
    taken = f"No module was named; used {', '.join(document['modules'])}.\n" if unnamed else ""
    fitted = text_of_probe(document) if probe else text_of_fit(document)
    return f"{taken if told or probe else ''}{fitted}{mixture}{saved}"
