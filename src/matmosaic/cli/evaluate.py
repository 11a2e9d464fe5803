"""``matmosaic evaluate``: compare methods on labelled structures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import (
    FEATURIZER_HELP,
    REFERENCE_HELP,
    add_command,
    add_data,
    add_mixture,
    add_own_epochs,
    add_unfrozen,
    folds,
    names,
)
from matmosaic.cli._audit import add_audit
from matmosaic.cli._console import Result
from matmosaic.cli._text import decimals, table, with_unit

if TYPE_CHECKING:
    from matmosaic.cli._data import LabelledData
    from matmosaic.cli._methods import Settings
    from matmosaic.cli._scoring import Score, Scored, Split

ERRORS = ("mae", "rmse", "r2")


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        "evaluate",
        common,
        help="compare methods on labelled structures",
        description="Compare methods on labelled structures, all on the same splits.",
    )
    add_data(parser)
    parser.add_argument(
        "--estimators",
        type=names,
        default=["constant", "scratch", "ridge", "transfer"],
        metavar="NAMES",
        help="methods, with commas between: constant, scratch, ridge, probe, transfer, moe, composed "
        "(default: constant,scratch,ridge,transfer)",
    )
    parser.add_argument(
        "--module",
        "--modules",
        nargs="+",
        action="extend",
        metavar="REF",
        help=f"{REFERENCE_HELP}; {FEATURIZER_HELP} (default: 'bundled:*', of which composed takes "
        "'bundled:emt-*')",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--cv", type=folds, default=5, metavar="K", help="folds of random rows (default: 5)")
    how.add_argument(
        "--splits",
        metavar="FILE",
        help='splits of your own: JSON such as [{"train": [0, 1], "val": [2], "test": [3]}], rows counted '
        "from 0, val optional",
    )
    add_unfrozen(parser)
    add_mixture(parser)
    add_own_epochs(parser)
    add_audit(parser)
    parser.add_argument("--unit", help="unit of the labels, for what is printed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Result:
    """Score every method on every split."""
    from matmosaic.cli._audit import audit
    from matmosaic.cli._data import read_labelled
    from matmosaic.cli._methods import candidates, check_mixtures, check_settings, method_named
    from matmosaic.cli._references import load_all
    from matmosaic.cli._scoring import score_all

    methods = [method_named(name) for name in dict.fromkeys(arguments.estimators)]
    settings = _settings(arguments)
    check_settings(methods, settings)
    needed = any(method.modules != "none" for method in methods)
    modules = load_all(arguments.module or ["bundled:*"]) if needed else {}
    given = candidates(methods, modules, named=bool(arguments.module))
    check_mixtures(given, settings)
    data = read_labelled(arguments)
    splits = _splits(arguments, data)
    scored = score_all(given, data.structures, data.y, splits, settings, progress=arguments.progress)
    document = {
        "target": arguments.target,
        "unit": data.unit,
        "n_rows": len(data.y),
        "dropped_rows": data.dropped,
        "n_splits": len(splits),
        "rows": [_row(one) for one in scored],
    }
    if arguments.audit:
        document["audit"] = audit(modules, data.structures, splits)
    return Result(document, _text(scored, document, fallback=settings.guard == "fallback"))


def _settings(arguments: argparse.Namespace) -> Settings:
    from matmosaic.cli._methods import Settings

    return Settings(
        epochs=arguments.epochs,
        seed=arguments.seed,
        device=arguments.device,
        unfrozen=arguments.unfrozen,
        n_active=arguments.n_active,
        guard=arguments.guard,
        aggregation=arguments.aggregation,
        width=arguments.width,
        combine=arguments.combine,
    )


def _splits(arguments: argparse.Namespace, data: LabelledData) -> list[Split]:
    from matmosaic.cli._splits import k_folds, read_splits

    if arguments.splits is None:
        return k_folds(len(data.y), arguments.cv, seed=arguments.seed)
    return read_splits(arguments.splits, data.rows, dropped=data.dropped)


def _row(one: Scored) -> dict[str, Any]:
    means = {f"{name}_mean": one.mean(name) for name in ERRORS}
    spreads = {f"{name}_std": one.std(name) for name in ERRORS}
    return {
        "method": one.candidate.method.name,
        "module": one.candidate.reference,
        **means,
        **spreads,
        "fit_seconds": one.mean("fit_seconds"),
        "folds": [_fold(score) for score in one.scores],
    }


def _fold(score: Score) -> dict[str, Any]:
    """Return the errors of one split and, of a mixture, the weights of its modules and what predicted."""
    return {name: value for name, value in score._asdict().items() if value is not None}


def _text(scored: list[Scored], document: dict[str, Any], *, fallback: bool) -> str:
    from matmosaic.cli._audit import audit_text
    from matmosaic.cli._mixture import gate_tables, lines_of_answers

    unit, dropped = document["unit"], document["dropped_rows"]
    places = decimals(one.mean("mae") for one in scored)
    headers = [
        "method",
        "module",
        with_unit("MAE", unit),
        "spread",
        with_unit("RMSE", unit),
        "R2",
        "s per fit",
    ]
    rows = [_cells(one, places) for one in scored]
    head = f"{document['target']}: {document['n_rows']} rows, {document['n_splits']} splits, best first."
    if dropped:
        head += f" {len(dropped)} rows without a label left out."
    each = "\n".join(
        f"{one.candidate.method.name} {one.candidate.reference or ''}".strip()
        + f": {', '.join(f'{score.mae:.{places}f}' for score in one.scores)}"
        for one in scored
    )
    parts = [
        head,
        table(headers, rows, numbers=headers[2:]),
        f"MAE of each split\n{each}",
        *(lines_of_answers(scored) if fallback else []),
        *gate_tables(scored),
        *([audit_text(document["audit"])] if "audit" in document else []),
    ]
    return "\n\n".join(parts)


def _cells(one: Scored, places: int) -> list[str]:
    return [
        one.candidate.method.name,
        one.candidate.module,
        f"{one.mean('mae'):.{places}f}",
        f"{one.std('mae'):.{places}f}",
        f"{one.mean('rmse'):.{places}f}",
        f"{one.mean('r2'):.3f}",
        f"{one.mean('fit_seconds'):.2f}",
    ]
