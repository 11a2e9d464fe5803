"""Structures and labels for commands: from a file, or embedded."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matmosaic.cli._arguments import property_names
from matmosaic.cli._text import listing
from matmosaic.exceptions import InvalidTargetsError, UnknownNameError, suggest

if TYPE_CHECKING:
    import pandas as pd

#: Prefix of data that ships with matmosaic, as of modules that do.
BUNDLED = "bundled:"

#: Given the names of the columns, those of the labels.
Choice = Callable[[Collection[str]], Sequence[str]]


class LabelledData(NamedTuple):
    """Structures with a label each, or a label of each of several properties."""

    structures: list[Any]
    """The crystals, length n_structures."""
    y: Any
    """Labels: an array or Series (n_structures,), all finite, or a DataFrame with a column per property."""
    rows: np.ndarray
    """Row of each in the data as it was given, counted from 0."""
    dropped: list[int]
    """Rows that were left out for want of a label."""
    unit: str | None
    """Unit of the labels, if it is known and the same for all."""


def read_table(
    arguments: argparse.Namespace, choose: Choice = lambda columns: []
) -> tuple[list[Any], pd.DataFrame]:
    """Return the structures of DATA and its other columns; those that are chosen must hold numbers."""
    from matmosaic.datasets.readers import read_chosen

    if arguments.data.startswith(BUNDLED):
        return _read_bundled(arguments.data, choose)
    return read_chosen(arguments.data, choose, structure=arguments.structure, progress=arguments.progress)


def read_labelled(arguments: argparse.Namespace) -> LabelledData:
    """Return the structures of DATA with the labels of ``--target``.

    Raises
    ------
    InvalidTargetsError
        If rows have no label, unless ``--drop-missing`` is given; names them.
    """
    data = _read(arguments, lambda columns: [arguments.target])
    return data._replace(y=data.y.iloc[:, 0].to_numpy(dtype=float), unit=unit_of(arguments))


def read_properties(arguments: argparse.Namespace) -> LabelledData:
    """Return the structures of DATA with the labels of one column or of several, NaN where one is missing.

    Raises
    ------
    InvalidTargetsError
        If rows have no label at all, unless ``--drop-missing`` is given; names them.
    InvalidParameterError
        If ``--target`` has an empty name among several.
    """
    data = _read(arguments, lambda columns: property_names(arguments.target, columns))
    if data.y.shape[1] > 1:
        return data
    return data._replace(y=data.y.iloc[:, 0], unit=unit_of(arguments))


def _read(arguments: argparse.Namespace, choose: Choice) -> LabelledData:
    structures, frame = read_table(arguments, choose)
    labels = frame[list(choose(frame.columns))].reset_index(drop=True)
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


def _read_bundled(name: str, choose: Choice) -> tuple[list[Any], pd.DataFrame]:
    from matmosaic.datasets import alloy_targets, load_alloys

    if name != f"{BUNDLED}alloys":
        raise UnknownNameError(suggest(name, [f"{BUNDLED}alloys"], what="embedded data"))
    targets = choose(alloy_targets())
    for one in targets:
        if one not in alloy_targets():
            raise UnknownNameError(f"target: {suggest(one, alloy_targets(), what='property of the alloys')}")
    alloys = load_alloys(*targets) if len(targets) == 1 else load_alloys()
    return alloys.data, alloys.frame


def _missing(arguments: argparse.Namespace, structures: list[Any], rows: np.ndarray) -> str:
    named = listing([f"{row} ({structures[row].composition.reduced_formula})" for row in rows])
    return (
        f"{arguments.data}: column {arguments.target!r} has no value in {len(rows)} of {len(structures)} "
        f"rows: {named}, counted from 0. Fill them in, or leave these rows out with --drop-missing."
    )
