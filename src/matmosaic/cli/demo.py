"""``matmosaic demo``: what pre-trained modules gain on a scarce property, on embedded data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import add_command, add_epochs, positive
from matmosaic.cli._console import Result
from matmosaic.cli._text import decimals, table, with_unit
from matmosaic.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import numpy as np

    from matmosaic.cli._scoring import Scored, Split

METHODS = ("constant", "scratch", "ridge", "probe", "transfer", "moe", "composed")
# Below this a fit holds out too little for its own validation.
MIN_TRAIN = 10
EXPLANATION = {
    "constant": "the median label",
    "scratch": "a network trained on these labels alone",
    "ridge": "ridge regression on a module's features, its weights frozen",
    "probe": "kernels on the features and predictions of all modules, their weights frozen",
    "transfer": "a module, all of it fine-tuned",
    "moe": "a mixture of all modules, weighted by a gate, all of them fine-tuned",
    "composed": "the mean of modules of one base, weighted by what they know, all of it fine-tuned",
}
# The modules come from the same kind of crystals, so every layer has something to keep and to adapt.
UNFROZEN = "all"


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "demo",
        common,
        help="compare transfer, a mixture and a composition with training from scratch on embedded data",
        description="Compare transfer of every bundled module, a mixture of them all and a composition with "
        "training from scratch, with ridge and kernels on frozen features and with a constant, on a property "
        "of embedded alloys with few labels. Offline.",
    )
    parser.add_argument(
        "--n-train", type=positive, default=100, metavar="N", help="labels to learn from (default: 100)"
    )
    parser.add_argument(
        "--splits",
        type=positive,
        default=3,
        metavar="N",
        help="random divisions to average over (default: 3)",
    )
    parser.add_argument(
        "--target",
        default="vacancy_energy",
        metavar="NAME",
        help="property of the alloys (default: vacancy_energy; shear_modulus is scarce, too)",
    )
    add_epochs(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Result:
    """Score every method on the same splits."""
    from matmosaic.cli._methods import METHODS as KNOWN
    from matmosaic.cli._methods import Settings, candidates
    from matmosaic.cli._references import load_all
    from matmosaic.cli._scoring import score_all
    from matmosaic.datasets import alloy_targets, load_alloys
    from matmosaic.modules import list_modules

    structures, y = load_alloys(arguments.target, return_X_y=True)
    splits = _splits(len(y), arguments)
    modules = load_all(list_modules("bundled:*"))
    given = candidates([KNOWN[name] for name in METHODS], modules, named=False)
    settings = Settings(
        epochs=arguments.epochs, seed=arguments.seed, device=arguments.device, unfrozen=UNFROZEN
    )
    scored = score_all(given, structures, y, splits, settings, progress=arguments.progress)
    unit = alloy_targets()[arguments.target]
    return Result(_document(scored, unit, arguments), _text(scored, unit, y, arguments))


def _splits(n_rows: int, arguments: argparse.Namespace) -> list[Split]:
    """Draw the training rows of each split at random; all others are tested on."""
    import numpy as np

    from matmosaic.cli._scoring import Split

    n_train = arguments.n_train
    if not MIN_TRAIN <= n_train < n_rows:
        raise InvalidParameterError(
            f"--n-train must be from {MIN_TRAIN} to {n_rows - 1}: {arguments.target} is known for {n_rows} "
            f"alloys, and the others are tested on. Got {n_train}."
        )
    rng = np.random.default_rng(arguments.seed)
    orders = [rng.permutation(n_rows) for _ in range(arguments.splits)]
    return [Split(order[:n_train], order[n_train:]) for order in orders]


def _document(scored: list[Scored], unit: str, arguments: argparse.Namespace) -> dict[str, Any]:
    rows = [_row(one) for one in scored]
    return {"target": arguments.target, "unit": unit, "n_train": arguments.n_train, "rows": rows}


def _row(one: Scored) -> dict[str, Any]:
    from matmosaic.cli._mixture import mean_gate

    row: dict[str, Any] = {
        "method": one.candidate.method.name,
        "module": one.candidate.reference,
        "mae_mean": one.mean("mae"),
        "mae_std": one.std("mae"),
        "fit_seconds": one.mean("fit_seconds"),
    }
    if one.gates:
        name = "gate_scores" if one.scores[0].gate_scores else "weights"
        row |= {name: mean_gate(one.gates)}
    return row


def _text(scored: list[Scored], unit: str, y: np.ndarray, arguments: argparse.Namespace) -> str:
    from matmosaic.cli._mixture import gate_tables

    n_train, splits = arguments.n_train, arguments.splits
    head = (
        f"{arguments.target} of embedded alloys, learnt from {n_train} labels, tested on the other "
        f"{len(y) - n_train}.\nMean absolute error, and its standard deviation, over {splits} random "
        f"split{'s' if splits > 1 else ''}."
    )
    legend = "\n".join(f"{name:8}  {text}" for name, text in EXPLANATION.items())
    return "\n\n".join([head, _table(scored, unit), legend, *gate_tables(scored), _next_steps(scored)])


def _table(scored: list[Scored], unit: str) -> str:
    places = decimals(one.mean("mae") for one in scored)
    headers = ["method", "module", with_unit("MAE", unit), "spread", "s per fit", ""]
    rows = [
        [
            one.candidate.method.name,
            one.candidate.module,
            f"{one.mean('mae'):.{places}f}",
            f"{one.std('mae'):.{places}f}",
            f"{one.mean('fit_seconds'):.2f}",
            "best" if one is scored[0] else "",
        ]
        for one in scored
    ]
    return table(headers, rows, numbers=headers[2:5])


def _next_steps(scored: list[Scored]) -> str:
    references = [one.candidate.reference for one in scored if one.candidate.method.name == "transfer"]
    module = f"--module {references[0]} " if references else ""
    return (
        "Next, with your own data (a table, CIFs with id_prop.csv, extended XYZ, JSON lines, parquet):\n"
        "  matmosaic evaluate DATA --target COLUMN --estimators probe,transfer,moe,composed "
        "--unfrozen all\n"
        f"  matmosaic fit DATA --target COLUMN {module}--unfrozen all -o my-model\n"
        "  matmosaic predict my-model NEW_DATA -o predictions.csv\n"
        "Bundled modules know Ag, Au, Cu, Ni, Pd and Pt. For other elements, start from published weights\n"
        "(matmosaic modules import --help) or from your own (matmosaic pretrain --help)."
    )
