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
_REMEDY = "Put a SimpleImputer behind the featurizer, or remove the rows."


def report(who: str, structures: Sequence[Any], found: Sequence[Features], names: np.ndarray) -> None:
    """Warn once of all that is NaN, and write why each row failed to the log.

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
    for row in failed:
        logger.info("%s: %s failed with %s", who, describe_row(row, structures[row]), found[row].failure)
    if all(np.isnan(found[row].values).all() for row in range(len(found))):
        message = f"{who} gives NaN alone for all {len(found)} rows, there is nothing to learn from"
    else:
        message = (
            f"{who} leaves features of {len(failed) + len(lacking)} of {len(found)} rows undefined (NaN)"
        )
    parts = [message, *_failures(structures, found, failed), *_gaps(structures, found, lacking, names)]
    warnings.warn(f"{'. '.join(parts)}. {_REMEDY}", UndefinedFeaturesWarning, stacklevel=4)


def _failures(structures: Sequence[Any], found: Sequence[Features], failed: list[int]) -> list[str]:
    if not failed:
        return []
    reason = " ".join(found[failed[0]].failure.split()).rstrip(".")
    return [f"featurize raised for {len(failed)}: {_named(structures, failed)}; for the first {reason}"]


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
