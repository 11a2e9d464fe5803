"""``matmosaic modules fingerprint``: say on a card, by hashes, what a module was trained on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matmosaic.cli._arguments import add_command, add_data
from matmosaic.cli._console import Result
from matmosaic.exceptions import StoreError


def add_fingerprint(actions: Any, common: argparse.ArgumentParser) -> None:
    """Describe ``fingerprint``."""
    parser = add_command(
        actions,
        "fingerprint",
        common,
        help="add hashes of training structures to the card of a module",
        description="Add one-way hashes of training structures to the card of a module, by which "
        "`evaluate --audit` tells what it has seen. Its weights stay as they are. Run it once for each "
        "data set, with --incomplete until the last.",
    )
    parser.add_argument("module", metavar="MODULE", help="directory of a module, which is rewritten")
    add_data(parser, labelled=False)
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="there are structures that it was trained on, or a module that it started from was, which are "
        "neither in DATA nor on the card",
    )
    parser.set_defaults(run=run_fingerprint)


def run_fingerprint(arguments: argparse.Namespace) -> Result:
    """Rewrite the module with hashes on its card."""
    from matmosaic.cli._data import read_table
    from matmosaic.modules import PretrainedModule, TrainingFingerprints

    directory = Path(arguments.module)
    module = PretrainedModule.load(directory)
    _check_alone(directory, module)
    structures, _ = read_table(arguments)
    module = module.with_fingerprints(structures, complete=not arguments.incomplete)
    module.save(directory, overwrite=True)
    seen = TrainingFingerprints.on(module.card) or TrainingFingerprints()
    document = {
        "module": arguments.module,
        "n_rows": len(structures),
        "structures": len(seen.structures),
        "compositions": len(seen.compositions),
        "complete": seen.complete,
    }
    text = f"{arguments.module}: {len(seen.structures)} crystals and {len(seen.compositions)} compositions"
    return Result(document, text)


def _check_alone(directory: Path, module: Any) -> None:
    """Refuse a saved estimator, of which writing a module would leave the module alone."""
    others = sorted({path.name for path in directory.iterdir()} - set(module.to_files()))
    if others:
        raise StoreError(
            f"{directory} is more than a module: it holds {others[:3]}. Estimators keep the fingerprints of "
            "their own fit; export a module of one with to_module."
        )
