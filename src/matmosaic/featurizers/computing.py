"""Compute features row by row: each structure once, in processes where that pays, failures as NaN."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from itertools import islice
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.parallel import get_active_backend

from matmosaic.exceptions import InvalidFeaturesError
from matmosaic.featurizers.cache import Features, digest, open_cache, structure_key
from matmosaic.structures import describe_row

if TYPE_CHECKING:
    from matmosaic.featurizers.base import Featurizer

logger = logging.getLogger(__name__)

# Rows that are computed before any of them is kept: an interrupted run loses no more.
ROWS_PER_BLOCK = 1000
# Work for less time than this is done before other processes have started.
WORTH_SECONDS = 2.0
MOST_ROWS_PER_CHUNK = 50


def features_of(
    featurizer: Featurizer, structures: Sequence[Any], names: np.ndarray, *, key: str
) -> list[Features]:
    """Return the features of structures, from the cache where they are kept there.

    Parameters
    ----------
    featurizer : Featurizer
        Any.
    structures : sequence of Structure or Molecule
        That have passed `as_structures`.
    names : ndarray of str, shape (n_features,)
        Of the features.
    key : str
        What the features depend on beside the structure.

    Returns
    -------
    list of Features, length n_structures
        Equal structures share one object.

    Raises
    ------
    InvalidFeaturesError
        If the featurizer returns anything but a row of numbers per structure, one for each name.
    """
    parameters = featurizer.get_params(deep=False)
    suffix = "-" + digest(f"{key} {len(names)}")
    keys = [structure_key(structure) + suffix for structure in structures]
    cache = open_cache(parameters.get("memory"))
    found = cache.get(dict.fromkeys(keys))
    missing = {key: row for row, key in reversed([*enumerate(keys)]) if key not in found}
    logger.debug("%s: %d rows, %d to compute", type(featurizer).__name__, len(keys), len(missing))
    for block in _blocks(sorted((row, key) for key, row in missing.items())):
        rows = {row: structures[row] for row, _ in block}
        computed = _compute(featurizer, rows, names, usable_jobs(parameters.get("n_jobs")))
        new = dict(zip((key for _, key in block), computed, strict=True))
        cache.put(new)
        found |= new
    return [found[key] for key in keys]


def usable_jobs(n_jobs: int | None) -> int:
    """Return the number of processes to use: one, if this is already the process or thread of a parallel job.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib.

    Returns
    -------
    int
    """
    nested = getattr(get_active_backend()[0], "nesting_level", 0) or multiprocessing.current_process().daemon
    return 1 if nested else effective_n_jobs(n_jobs)


def _blocks(rows: list[Any]) -> Iterator[list[Any]]:
    return (rows[start : start + ROWS_PER_BLOCK] for start in range(0, len(rows), ROWS_PER_BLOCK))


def _compute(
    featurizer: Featurizer, structures: dict[int, Any], names: np.ndarray, n_jobs: int
) -> list[Features]:
    """Compute here until it is clear that other processes would be done sooner."""
    waiting = iter(structures.items())
    done: list[Features] = []
    for row, structure in waiting:
        done.append(_checked(featurizer, attempt(featurizer, structure), row, structure, names))
        if len(done) == 1:
            start = perf_counter()  # the first row may read tables and import packages
        left = len(structures) - len(done)
        per_row = (perf_counter() - start) / max(1, len(done) - 1)
        if n_jobs > 1 and left > 1 and len(done) > 1 and per_row * left > WORTH_SECONDS:
            break
    rest = list(waiting)
    outcomes = _in_processes(featurizer, [structure for _, structure in rest], n_jobs)
    return done + [
        _checked(featurizer, outcome, row, structure, names)
        for (row, structure), outcome in zip(rest, outcomes, strict=True)
    ]


def _in_processes(featurizer: Featurizer, structures: list[Any], n_jobs: int) -> list[Any]:
    if not structures:
        return []
    size = min(MOST_ROWS_PER_CHUNK, ceil(len(structures) / (4 * n_jobs)))
    rows = iter(structures)
    chunks = iter(lambda: list(islice(rows, size)), [])
    # Processes that start afresh: copies of this one would inherit locks that nobody releases.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        done = Parallel(n_jobs=n_jobs)(delayed(_attempt_all)(featurizer, chunk) for chunk in chunks)
    return [outcome for chunk in done for outcome in chunk]


def _attempt_all(featurizer: Featurizer, structures: list[Any]) -> list[Any]:
    return [attempt(featurizer, structure) for structure in structures]


class Failure(str):
    """Why a featurizer raised, where its result is expected."""

    __slots__ = ()


def attempt(featurizer: Featurizer, structure: Any) -> Any:
    """Return what the featurizer returns for a structure, or a Failure if it raises.

    Parameters
    ----------
    featurizer : Featurizer
        Any.
    structure : Structure or Molecule
        Any.

    Returns
    -------
    object
        Unchecked.

    Raises
    ------
    ImportError, MemoryError
        These are no fault of the structure, and would make all rows NaN.
    """
    try:
        return featurizer.featurize(structure)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # of any library
        return Failure(f"{type(error).__name__}: {error}")


# --- what may be returned ----------------------------------------------------------------------------


def _checked(featurizer: Featurizer, outcome: Any, row: int, structure: Any, names: np.ndarray) -> Features:
    if isinstance(outcome, Failure):
        return Features(np.full(len(names), np.nan), str(outcome) or "no reason given")
    try:
        return Features(as_row(outcome, names))
    except InvalidFeaturesError as error:
        what = f"{type(featurizer).__name__}.featurize({describe_row(row, structure)})"
        raise InvalidFeaturesError(f"{what} {error}") from error


def as_row(values: Any, names: np.ndarray) -> np.ndarray:
    """Return what a featurizer returned as a row of numbers.

    Parameters
    ----------
    values : object
        Of ``featurize``.
    names : ndarray of str, shape (n_features,)
        Of the features.

    Returns
    -------
    ndarray of float64, shape (n_features,)
        A copy.

    Raises
    ------
    InvalidFeaturesError
        If it is none; the message continues a sentence that names the featurizer.
    """
    row = _as_numbers(values)
    expected = f"({len(names)},), one number for each name of get_feature_names_out"
    if row.ndim != 1:
        raise InvalidFeaturesError(
            f"must return shape {expected}. Got shape {row.shape}; return values.ravel() of one structure."
        )
    if len(row) != len(names):
        raise InvalidFeaturesError(
            f"must return shape {expected}. Got {len(row)} numbers; return as many as there are names, NaN "
            "where undefined."
        )
    if np.isinf(row).any():
        raise InvalidFeaturesError(
            f"must return finite numbers, or NaN where undefined. Got {row[np.isinf(row)][0]} for "
            f"{str(names[np.isinf(row)][0])!r}; return NaN instead."
        )
    return row


def _as_numbers(values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cSUmM":
            raise TypeError(f"dtype {array.dtype}")
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidFeaturesError(
            f"must return real numbers as float64. Got {type(values).__name__} ({error}); convert complex "
            "numbers, texts and missing values, the latter to NaN."
        ) from error
