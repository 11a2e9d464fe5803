"""Tell which features of which rows are undefined."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from matmosaic.exceptions import UndefinedFeaturesWarning
from matmosaic.featurizers.cache import Features
from matmosaic.structures import describe_row

logger = logging.getLogger(__name__)

ROWS_NAMED = 10
FEATURES_NAMED = 5
REASONS_NAMED = 3
_REMEDY = "Put a SimpleImputer behind the featurizer, or remove the rows."
_REMEDY_OF_ALL = "No imputer can learn from them: see whether the featurizer is meant for such rows."


def report(who: str, structures: Sequence[Any], found: Sequence[Features], names: np.ndarray) -> None:
    """Warn once of all that is NaN, and write all reasons with their rows to the log.

    Parameters
    ----------
    who : str
        Class of the featurizer.
    structures : sequence of Structure or Molecule
        The rows.
    found : sequence of Features
        Of each row.
    names : ndarray of str, shape (n_features,)
        Of the features.
    """
    failed = [row for row, one in enumerate(found) if one.failure]
    lacking = [row for row, one in enumerate(found) if not one.failure and np.isnan(one.values).any()]
    if not failed and not lacking:
        return
    reasons = _by_reason(found)
    for reason, rows in reasons.items():
        logger.info("%s: %s: %s", who, reason, _named(structures, rows))
    if all(np.isnan(one.values).all() for one in found):
        message = f"{who} gives NaN alone for all {len(found)} rows, there is nothing to learn from"
        remedy = _REMEDY_OF_ALL
    else:
        n_rows = len(failed) + len(lacking)
        message = f"{who} leaves features of {n_rows} of {len(found)} rows undefined (NaN)"
        remedy = _REMEDY
    parts = [message, *_failures(structures, failed), *_gaps(structures, found, lacking, names)]
    parts += _reasons(reasons)
    warnings.warn(f"{'. '.join(parts)}. {remedy}", UndefinedFeaturesWarning, stacklevel=4)


def _by_reason(found: Sequence[Features]) -> dict[str, list[int]]:
    """Return the rows of each reason, the most frequent first."""
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(found):
        for reason in (one.failure, *one.gaps):
            if line := " ".join(reason.split()).rstrip("."):
                rows.setdefault(line, []).append(row)
    return dict(sorted(rows.items(), key=lambda item: -len(item[1])))


def _reasons(reasons: dict[str, list[int]]) -> list[str]:
    if not reasons:
        return []
    shown = "; ".join(f"{reason} ({len(rows)})" for reason, rows in [*reasons.items()][:REASONS_NAMED])
    more = len(reasons) - REASONS_NAMED
    rest = f"; and {more} more, in the log (level INFO)" if more > 0 else ""
    return [f"Reasons, with numbers of rows: {shown}{rest}"]


def _failures(structures: Sequence[Any], failed: list[int]) -> list[str]:
    return [f"featurize raised for {len(failed)}: {_named(structures, failed)}"] if failed else []


def _gaps(
    structures: Sequence[Any], found: Sequence[Features], lacking: list[int], names: np.ndarray
) -> list[str]:
    if not lacking:
        return []
    undefined = np.isnan([found[row].values for row in lacking]).sum(axis=0)
    worst = [column for column in np.argsort(-undefined, kind="stable") if undefined[column]]
    shown = ", ".join(f"{str(names[column])!r} of {undefined[column]}" for column in worst[:FEATURES_NAMED])
    more = f" and {len(worst) - FEATURES_NAMED} more features" if len(worst) > FEATURES_NAMED else ""
    return [f"{len(lacking)} lack some: {_named(structures, lacking)}; {shown}{more}"]


def _named(structures: Sequence[Any], rows: list[int]) -> str:
    shown = ", ".join(describe_row(row, structures[row]) for row in rows[:ROWS_NAMED])
    return shown + (f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else "")
