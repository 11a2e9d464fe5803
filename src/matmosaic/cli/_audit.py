"""What ``evaluate --audit`` tells: how many test rows a module, or the training rows, have shown before."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matmosaic.cli._text import table

if TYPE_CHECKING:
    from matmosaic.cli._scoring import Split

#: What stands in place of a module's reference for the rows that a method is trained on.
TRAINING_ROWS = "training rows"
UNKNOWN = "no fingerprints on the card; `matmosaic modules fingerprint MODULE DATA` adds them"


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Add whether to tell."""
    parser.add_argument(
        "--audit",
        action="store_true",
        help="say how many test rows of each split were probably seen before: by a module in its own "
        "training, or among the split's training rows",
    )


def audit(
    modules: Mapping[str, Any], structures: Sequence[Any], splits: Sequence[Split]
) -> list[dict[str, Any]]:
    """Return how many test rows of each split have probably been seen.

    Parameters
    ----------
    modules : mapping of str to PretrainedModule
        By reference; featurizers among them, which were trained on nothing, are left out.
    structures : sequence of structures, length n_structures
        The crystals.
    splits : sequence of Split
        Positions in these.

    Returns
    -------
    list of dict
        The rows that each split trains on, then the modules: ``module``, ``complete`` and, in ``splits``,
        ``n_test``, ``by_structure`` and ``by_composition`` of each. Of a module without fingerprints these
        are None, and ``error`` says why.
    """
    from matmosaic.inspection import audit_overlap
    from matmosaic.modules import PretrainedModule, TrainingFingerprints

    cards = {reference: one.card for reference, one in modules.items() if isinstance(one, PretrainedModule)}
    seen = {reference: TrainingFingerprints.on(card) for reference, card in cards.items()}
    known = {reference: one for reference, one in seen.items() if one is not None}
    found = audit_overlap([*known.values()], structures) if known else None
    counts = [found.counts(split.test) for split in splits] if found else []
    rows = {
        reference: [_counts(of_split.iloc[place]) for of_split in counts]
        for place, reference in enumerate(known)
    }
    return [
        _entry(TRAINING_ROWS, [_own(structures, split) for split in splits], complete=True),
        *(_entry(one, rows.get(one), complete=known[one].complete if one in known else None) for one in seen),
    ]


def _own(structures: Sequence[Any], split: Split) -> dict[str, int]:
    """Return the counts of what a split trains on, validation included."""
    from matmosaic.inspection import audit_overlap
    from matmosaic.modules import TrainingFingerprints

    used = [*split.train, *([] if split.val is None else split.val)]
    trained = TrainingFingerprints.of([structures[row] for row in used])
    return _counts(audit_overlap(trained, [structures[row] for row in split.test]).counts().iloc[0])


def _counts(row: Any) -> dict[str, int]:
    return {
        "n_test": int(row["n_rows"]),
        "by_structure": int(row["by_structure"]),
        "by_composition": int(row["by_composition"]),
    }


def _entry(module: str, splits: list[dict[str, int]] | None, *, complete: bool | None) -> dict[str, Any]:
    error = {"error": UNKNOWN} if splits is None else {}
    return {"module": module, "complete": complete, "splits": splits, **error}


def audit_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the entries of :func:`audit`, and what they mean."""
    known = [entry for entry in entries if entry["splits"] is not None]
    n_test = ", ".join(str(split["n_test"]) for split in known[0]["splits"])
    headers = ["seen by", "same crystal", "same composition"]
    rows = [[_name(entry), _of(entry, "by_structure"), _of(entry, "by_composition")] for entry in known]
    unknown = [f"{entry['module']}: {entry['error']}." for entry in entries if entry["splits"] is None]
    partly = [entry for entry in known if not entry["complete"]]
    note = ["* at least: fingerprints of a part of its training structures are known."] if partly else []
    head = f"Test rows probably seen before, of {n_test} in each split"
    return "\n".join([head, table(headers, rows, whole=headers), *note, *unknown])


def _name(entry: Mapping[str, Any]) -> str:
    return entry["module"] if entry["complete"] else f"{entry['module']} *"


def _of(entry: Mapping[str, Any], kind: str) -> str:
    return ", ".join(str(split[kind]) for split in entry["splits"])
