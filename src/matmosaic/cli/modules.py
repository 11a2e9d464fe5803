"""``matmosaic modules``: list, show, import, push, pull, fingerprint and verify pre-trained modules."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matmosaic.cli._arguments import REFERENCE_HELP, add_command, key_text
from matmosaic.cli._console import Result
from matmosaic.cli._fingerprints import add_fingerprint
from matmosaic.cli._text import quantity, table
from matmosaic.cli._transfers import add_pull, add_push
from matmosaic.exceptions import MatmosaicError, ModuleFormatError, StoreError, UnknownNameError

if TYPE_CHECKING:
    from matmosaic.modules import PretrainedModule
    from matmosaic.modules.summary import ModuleSummary

FAILED = 1


def add(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command and what it can do."""
    parser = subparsers.add_parser(
        "modules",
        help="list, show, import, push, pull, fingerprint and verify pre-trained modules",
        description="List, show, import, push, pull, fingerprint and verify pre-trained modules.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_list(actions, common)
    _add_show(actions, common)
    _add_import(actions, common)
    add_push(actions, common)
    add_pull(actions, common)
    add_fingerprint(actions, common)
    _add_verify(actions, common)


# --- list --------------------------------------------------------------------------------------------


def _add_list(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(actions, "list", common, help="list modules by what they predict")
    parser.add_argument(
        "references",
        nargs="*",
        default=["bundled:*"],
        metavar="REF",
        help="references, globs of them, directories of modules, or hubs (default: 'bundled:*')",
    )
    parser.add_argument(
        "--filter",
        dest="filters",
        type=key_text,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="list only those whose property, unit, backbone, license, kind or base is VALUE, which may be a "
        "glob; of several filters all must hold, of one KEY given twice either",
    )
    parser.set_defaults(run=run_list)


def run_list(arguments: argparse.Namespace) -> Result:
    """List modules; a card that cannot be read is a line of its own."""
    from matmosaic.cli._references import expand
    from matmosaic.modules.references import read_summary
    from matmosaic.modules.summary import check_filter

    for key, _ in arguments.filters:
        check_filter(key)
    entries: list[dict[str, Any]] = []
    for reference in expand(arguments.references):
        try:
            summary = read_summary(reference)
        except ModuleFormatError as error:
            entries.append({"reference": reference, "error": str(error)})
            continue
        if _passes(summary, arguments.filters):
            entries.append({"reference": reference, **_summary(summary)})
    if not entries:
        filters = "".join(f" with {key}={pattern}" for key, pattern in arguments.filters)
        return Result({"modules": []}, f"No module matches {' '.join(arguments.references)}{filters}")
    return Result({"modules": entries}, _list_text(entries))


def _passes(summary: ModuleSummary, filters: list[tuple[str, str]]) -> bool:
    return all(
        any(summary.matches(key, pattern) for other, pattern in filters if other == key)
        for key in dict.fromkeys(key for key, _ in filters)
    )


def _summary(summary: ModuleSummary) -> dict[str, Any]:
    names = [name for name, _ in summary.outputs]
    return {
        "version": summary.version,
        "target": summary.target,
        "unit": summary.unit,
        "backbone": summary.backbone,
        "kind": summary.kind,
        "base": summary.base,
        "n_train": summary.n_train,
        "mae": summary.mae,
        "license_weights": summary.license_weights,
        **({"properties": names} if names != [summary.target] else {}),
    }


def _list_text(entries: list[dict[str, Any]]) -> str:
    headers = ["module", "target", "MAE", "trained on", "backbone", "licence"]
    rows = [_list_row(entry) for entry in entries if "error" not in entry]
    errors = [f"unreadable: {entry['error']}" for entry in entries if "error" in entry]
    shown = [table(headers, rows, numbers=["MAE", "trained on"], whole=["module"])] if rows else []
    return "\n".join([*shown, *errors])


def _list_row(entry: dict[str, Any]) -> list[str]:
    unit = None if entry["unit"] == "unknown" else entry["unit"]  # as importers write it
    return [
        entry["reference"],
        f"{len(entry['properties'])} properties" if "properties" in entry else entry["target"],
        "-" if entry["mae"] is None else quantity(entry["mae"], unit),
        "-" if entry["n_train"] is None else str(entry["n_train"]),
        entry["backbone"],
        entry["license_weights"] or "-",
    ]


# --- show --------------------------------------------------------------------------------------------


def _add_show(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(actions, "show", common, help="show the card of a module")
    parser.add_argument("reference", metavar="REF", help=REFERENCE_HELP)
    parser.set_defaults(run=run_show)


def run_show(arguments: argparse.Namespace) -> Result:
    """Show one or more cards."""
    from matmosaic.cli._references import expand
    from matmosaic.modules.references import read_card

    references = expand([arguments.reference])
    if not references:
        raise UnknownNameError(
            f"No module matches {arguments.reference!r}; `matmosaic modules list` shows some."
        )
    cards = {reference: read_card(reference).to_dict() for reference in references}
    text = "\n\n".join(_card_text(reference, card) for reference, card in cards.items())
    documents = [{"reference": reference, "card": card} for reference, card in cards.items()]
    return Result(documents[0] if len(documents) == 1 else {"modules": documents}, text)


def _card_text(reference: str, card: dict[str, Any]) -> str:
    width = max(map(len, card))
    lines = [f"{name:{width}}  {_field_text(name, value)}" for name, value in card.items()]
    return "\n".join([f"{'reference':{width}}  {reference}", *lines])


def _field_text(name: str, value: Any) -> str:
    if name == "golden":
        return f"{len(value)} golden outputs"
    if name == "fingerprints":
        return _fingerprints_text(value)
    if isinstance(value, dict):
        return _pairs(value)
    if isinstance(value, list):
        return "; ".join(_pairs(item) if isinstance(item, dict) else str(item) for item in value) or "-"
    return "-" if value is None else str(value)


def _fingerprints_text(value: Any) -> str:
    """Say how many hashes of training structures there are, in place of these."""
    from matmosaic.modules import TrainingFingerprints

    seen = TrainingFingerprints.from_field(value)
    if seen is None:
        return "-" if not value else "of a version that cannot be compared"
    parts = "" if seen.complete else " of a part"
    return f"hashes of {len(seen.structures)} crystals, {len(seen.compositions)} compositions{parts}"


def _pairs(value: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_item_text(item)}" for key, item in value.items()) or "-"


def _item_text(item: Any) -> str:
    return f"({_pairs(item)})" if isinstance(item, dict) else "-" if item is None else str(item)


# --- import ------------------------------------------------------------------------------------------


def _add_import(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        actions,
        "import",
        common,
        help="turn published checkpoints into modules",
        description="Turn published checkpoints into modules: a directory DIR/mp_eform of mp_eform.pth.tar.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="checkpoints; files that run code are refused"
    )
    parser.add_argument(
        "--format", required=True, metavar="NAME", help="what wrote the files: alignn or cgcnn"
    )
    parser.add_argument("--store", required=True, metavar="DIR", help="directory of modules; made if needed")
    parser.add_argument("--overwrite", action="store_true", help="replace modules of the same names")
    parser.add_argument(
        "--target", metavar="TEXT", help="what the checkpoints predict (default: their names)"
    )
    parser.add_argument("--unit", help="unit of the target (default: unknown)")
    parser.add_argument("--license-weights", metavar="SPDX", help="licence of the weights")
    parser.set_defaults(run=run_import)


def run_import(arguments: argparse.Namespace) -> Result:
    """Import all files, then save all modules."""
    from matmosaic.cli._training import progress_bar
    from matmosaic.modules import DirectoryStore, importers
    from matmosaic.modules.summary import ModuleSummary

    card = {name: getattr(arguments, name) for name in ("target", "unit", "license_weights")}
    modules = []
    with progress_bar(len(arguments.files), "file", shown=arguments.progress) as bar:
        for file in arguments.files:
            modules.append(importers.load(arguments.format, _existing(file), **card))
            bar.update()
    store = DirectoryStore(arguments.store)
    _check_names(modules, store, overwrite=arguments.overwrite)
    for module in modules:
        store.save(module, overwrite=arguments.overwrite)
    rows = [
        {
            "file": file,
            "reference": str(store.path / module.card.name),
            **_summary(ModuleSummary.of(module.card)),
        }
        for file, module in zip(arguments.files, modules, strict=True)
    ]
    text = "\n".join(f"{row['file']} -> {row['reference']}" for row in rows)
    return Result({"modules": rows}, text)


def _existing(file: str) -> str:
    if not Path(file).is_file():
        raise UnknownNameError(f"There is no file {file}; check the path.")
    return file


def _check_names(modules: list[PretrainedModule], store: Any, *, overwrite: bool) -> None:
    """Refuse names that are taken before any module is saved."""
    names = [module.card.name for module in modules]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StoreError(
            f"Several files would make the module {repeated[0]!r}; import them into different stores."
        )
    taken = sorted(set(names).intersection(store.names() if store.path.is_dir() else []))
    if taken and not overwrite:
        raise StoreError(f"{store.path} holds {taken} already; use --overwrite, or another --store.")


# --- verify ------------------------------------------------------------------------------------------


def _add_verify(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        actions,
        "verify",
        common,
        help="recompute checksums and golden outputs",
        description="Recompute the checksums and golden outputs of modules; status 1 if one is damaged, "
        "or unavailable: not cached and not reachable, or without the module that its adapters are for.",
    )
    parser.add_argument(
        "references",
        nargs="+",
        metavar="REF",
        help="references, globs of them, directories of modules, or hubs",
    )
    parser.set_defaults(run=run_verify)


def run_verify(arguments: argparse.Namespace) -> Result:
    """Verify each module; one that is damaged or unavailable does not stop the others."""
    from matmosaic.cli._references import expand

    references = expand(arguments.references)
    if not references:
        raise UnknownNameError(f"No module matches {' '.join(arguments.references)}; nothing was verified.")
    entries = [_verified(reference) for reference in references]
    headers = ["module", "state", "deviation"]
    rows = [[entry["reference"], entry["state"], _deviation(entry["deviation"])] for entry in entries]
    errors = [f"{entry['reference']}: {entry['error']}" for entry in entries if entry["error"]]
    text = "\n".join([table(headers, rows, numbers=["deviation"], whole=["module"]), *errors])
    return Result({"modules": entries}, text, FAILED if errors else 0)


def _verified(reference: str) -> dict[str, Any]:
    from matmosaic.modules import load_module

    deviation, problem = None, None
    try:
        deviation, state = load_module(reference).verify(), "intact"
    except ModuleFormatError as error:
        state, problem = "damaged", str(error)
    except MatmosaicError as error:  # nothing was read that could be judged
        state, problem = "unavailable", str(error)
    return {
        "reference": reference,
        "state": state,
        "intact": state == "intact",
        "deviation": deviation,
        "error": problem,
    }


def _deviation(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
