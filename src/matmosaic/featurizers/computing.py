"""Compute features row by row: each structure once, in processes where that pays, failures as NaN."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from itertools import islice
from math import ceil
from numbers import Integral
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.parallel import get_active_backend

from matmosaic.exceptions import (
    InvalidFeaturesError,
    InvalidParameterError,
    PluginError,
    WorkerError,
    missing_package,
)
from matmosaic.featurizers.cache import Features, digest, open_cache, structure_key
from matmosaic.featurizers.notes import collect_gaps
from matmosaic.structures import caching, describe_row

if TYPE_CHECKING:
    from matmosaic.featurizers.base import Featurizer

logger = logging.getLogger(__name__)

# What was computed is kept this often, and when the work ends early: a process that is killed loses no more.
SECONDS_PER_PUT = 10.0
# Work for less time than this is done before other processes have started.
WORTH_SECONDS = 2.0
MOST_ROWS_PER_CHUNK = 50

# What featurize returned, unchecked, or a Failure; and the reasons for gaps that it told.
Outcome: TypeAlias = tuple[Any, tuple[str, ...]]


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
    InvalidParameterError
        If its ``n_jobs`` or ``memory`` cannot be used.
    PluginError
        If a package is missing that the featurizer imports.
    WorkerError
        If a process that it started has died.
    """
    parameters = featurizer.get_params(deep=False)
    n_jobs = usable_jobs(parameters.get("n_jobs"))
    suffix = "-" + digest(f"{key} {len(names)}")
    keys = [structure_key(structure) + suffix for structure in structures]
    cache = open_cache(parameters.get("memory"))
    found = cache.get(dict.fromkeys(keys))
    missing = {key: row for row, key in reversed([*enumerate(keys)]) if key not in found}
    logger.debug("%s: %d rows, %d to compute", type(featurizer).__name__, len(keys), len(missing))
    rows = {row: structures[row] for row in sorted(missing.values())}
    with closing(_compute(featurizer, rows, names, n_jobs)) as computed:
        found |= _keep(cache, ((keys[row], features) for row, features in computed))
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

    Raises
    ------
    InvalidParameterError
        If it is no number of processes.
    """
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise InvalidParameterError(
            "'n_jobs' must be None or a whole number of processes, below zero to count from all cores (-1). "
            f"Got {n_jobs!r}."
        )
    nested = getattr(get_active_backend()[0], "nesting_level", 0) or multiprocessing.current_process().daemon
    return 1 if nested else effective_n_jobs(n_jobs)


def _keep(cache: caching.Cache[Features], computed: Iterator[tuple[str, Features]]) -> dict[str, Features]:
    """Put features into the cache while they are computed, and what there is if an error ends that."""
    everything: dict[str, Features] = {}
    new: dict[str, Features] = {}
    last = perf_counter()
    try:
        for key, features in computed:
            new[key] = everything[key] = features
            if perf_counter() - last > SECONDS_PER_PUT:
                cache.put(new)
                new, last = {}, perf_counter()
    finally:
        cache.put(new)
    return everything


# --- here or in other processes ----------------------------------------------------------------------


def _compute(
    featurizer: Featurizer, structures: dict[int, Any], names: np.ndarray, n_jobs: int
) -> Generator[tuple[int, Features], None, None]:
    """Yield the features of rows, in order."""
    rows = iter(structures.items())
    with closing(_outcomes(featurizer, [*structures.values()], n_jobs)) as outcomes:
        try:
            for outcome, (row, structure) in zip(outcomes, rows, strict=True):
                yield row, _checked(featurizer, outcome, row, structure, names)
        except BrokenExecutor as error:
            raise _died(featurizer, *next(rows)) from error


def _outcomes(featurizer: Featurizer, structures: list[Any], n_jobs: int) -> Generator[Outcome, None, None]:
    """Compute here until it is clear that other processes would be done sooner."""
    n_rows, seconds = len(structures), 0.0
    for done, structure in enumerate(structures):
        if n_jobs > 1 and _is_worth_processes(seconds, done, n_rows - done):
            yield from _in_processes(featurizer, structures[done:], n_jobs)
            return
        start = perf_counter()
        outcome = _attempt_with_gaps(featurizer, structure)
        if done > 0:  # the first row may read tables and import packages
            seconds += perf_counter() - start
        yield outcome


def _is_worth_processes(seconds: float, done: int, left: int) -> bool:
    """Judge by the seconds that all rows done but the first took."""
    return done > 1 and left > 1 and seconds / (done - 1) * left > WORTH_SECONDS


def _in_processes(featurizer: Featurizer, structures: list[Any], n_jobs: int) -> Iterator[Outcome]:
    size = min(MOST_ROWS_PER_CHUNK, ceil(len(structures) / (4 * n_jobs)))
    rows = iter(structures)
    chunks = iter(lambda: list(islice(rows, size)), [])
    # Processes that start afresh: copies of this one would inherit locks that nobody releases.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    with closing(parallel(delayed(_attempt_all)(featurizer, chunk) for chunk in chunks)) as done:
        for outcome in (one for chunk in done for one in chunk):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


def _attempt_all(featurizer: Featurizer, structures: list[Any]) -> list[Outcome | Exception]:
    """Describe structures; an error that stops the work ends the list, so that those before it count."""
    outcomes: list[Outcome | Exception] = []
    try:
        for structure in structures:
            outcomes.append(_attempt_with_gaps(featurizer, structure))
    except (PluginError, MemoryError) as error:
        outcomes.append(error)
    return outcomes


def _attempt_with_gaps(featurizer: Featurizer, structure: Any) -> Outcome:
    with collect_gaps() as gaps:
        found = attempt(featurizer, structure)
    return found, tuple(gaps)


def _died(featurizer: Featurizer, row: int, structure: Any) -> WorkerError:
    who, where = type(featurizer).__name__, describe_row(row, structure)
    return WorkerError(
        f"A process that computed features of {who} died, at {where} or a later row: for lack of memory, or "
        "by a crash of compiled code. Pass n_jobs=1 to see which row; what was computed before is kept."
    )


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
    PluginError, MemoryError
        If a package is missing or there is no memory: no fault of the structure, and of all rows alike.
    """
    try:
        return featurizer.featurize(structure)
    except (PluginError, MemoryError):
        raise
    except ImportError as error:
        raise _lacking(featurizer, error) from error
    except Exception as error:  # of any library
        return Failure(f"{type(error).__name__}: {error}")


def _lacking(featurizer: Featurizer, error: ImportError) -> PluginError:
    what = f"{type(featurizer).__name__} cannot import what it needs ({type(error).__name__}: {error})."
    return PluginError(f"{what} {missing_package(error) or 'Upgrade or reinstall it.'}")


# --- what may be returned ----------------------------------------------------------------------------


def _checked(
    featurizer: Featurizer, outcome: Outcome, row: int, structure: Any, names: np.ndarray
) -> Features:
    values, gaps = outcome
    if isinstance(values, Failure):
        return Features(np.full(len(names), np.nan), str(values))
    try:
        return Features(as_row(values, names), gaps=gaps)
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
