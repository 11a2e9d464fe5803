"""Structures and labels for commands: from a file, or embedded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matmosaic.cli._text import listing
from matmosaic.exceptions import InvalidTargetsError, UnknownNameError, suggest

if TYPE_CHECKING:
    import pandas as pd

#: Prefix of data that ships with matmosaic, as of modules that do.
BUNDLED = "bundled:"


class LabelledData(NamedTuple):
    """Structures with a label each, or a label of each of several properties."""

    structures: list[Any]
    """The crystals, length n_structures."""
    y: Any
    """Labels: an array (n_structures,), all finite, or a DataFrame with a column per property."""
    rows: np.ndarray
    """Row of each in the data as it was given, counted from 0."""
    dropped: list[int]
    """Rows that were left out for want of a label."""
    unit: str | None
    """Unit of the labels, if it is known and the same for all."""


def read_table(
    arguments: argparse.Namespace, target: str | Sequence[str] | None = None
) -> tuple[list[Any], pd.DataFrame]:
    """Return the structures of DATA and its other columns."""
    from matmosaic.datasets import read_structures

    if arguments.data.startswith(BUNDLED):
        return _read_bundled(arguments.data, target)
    return read_structures(
        arguments.data, target=target, structure=arguments.structure, progress=arguments.progress
    )


def read_labelled(arguments: argparse.Namespace) -> LabelledData:
    """Return the structures of DATA with the labels of ``--target``.

    Raises
    ------
    InvalidTargetsError
        If rows have no label, unless ``--drop-missing`` is given; names them.
    """
    structures, frame = read_table(arguments, arguments.target)
    y = frame[arguments.target].to_numpy(dtype=float)
    missing = np.flatnonzero(np.isnan(y))
    if len(missing) and not arguments.drop_missing:
        raise InvalidTargetsError(_missing(arguments, structures, missing))
    rows = np.flatnonzero(~np.isnan(y))
    return LabelledData(
        [structures[row] for row in rows], y[rows], rows, missing.tolist(), unit_of(arguments)
    )


def read_properties(arguments: argparse.Namespace, targets: Sequence[str]) -> LabelledData:
    """Return the structures of DATA with the labels of several columns, NaN where one is missing.

    Raises
    ------
    InvalidTargetsError
        If rows have no label at all, unless ``--drop-missing`` is given; names them.
    """
    structures, frame = read_table(arguments, targets)
    labels = frame[list(targets)].reset_index(drop=True)
    empty = labels.isna().all(axis=1).to_numpy()
    if empty.any() and not arguments.drop_missing:
        raise InvalidTargetsError(_missing(arguments, structures, np.flatnonzero(empty)))
    rows = np.flatnonzero(~empty)
    found = [structures[row] for row in rows]
    return LabelledData(found, labels.iloc[rows], rows, np.flatnonzero(empty).tolist(), None)


def unit_of(arguments: argparse.Namespace) -> str | None:
    """Return the unit that was given, or that of an embedded property."""
    from matmosaic.datasets import alloy_targets

    if arguments.unit is None and arguments.data.startswith(BUNDLED):
        return alloy_targets().get(arguments.target)
    return arguments.unit


def _read_bundled(name: str, target: str | Sequence[str] | None) -> tuple[list[Any], pd.DataFrame]:
    from matmosaic.datasets import alloy_targets, load_alloys

    if name != f"{BUNDLED}alloys":
        raise UnknownNameError(suggest(name, [f"{BUNDLED}alloys"], what="embedded data"))
    for one in target if target and not isinstance(target, str) else ():
        if one not in alloy_targets():
            raise UnknownNameError(f"target: {suggest(one, alloy_targets(), what='property of the alloys')}")
    alloys = load_alloys(target) if isinstance(target, str) else load_alloys()
    return alloys.data, alloys.frame


def _missing(arguments: argparse.Namespace, structures: list[Any], rows: np.ndarray) -> str:
    named = listing([f"{row} ({structures[row].composition.reduced_formula})" for row in rows])
    return (
        f"{arguments.data}: column {arguments.target!r} has no value in {len(rows)} of {len(structures)} "
        f"rows: {named}, counted from 0. Fill them in, or leave these rows out with --drop-missing."
    )
