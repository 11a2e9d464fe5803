"""Tables of one property each, as users pass them to be merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidStructuresError,
    InvalidTargetsError,
    UnknownNameError,
    suggest,
)
from matmosaic.structures import as_structures

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

_TABLE = "expected (X, y) or (X, y, unit), or a list of such tables of one property"


@dataclass(frozen=True, eq=False)
class PropertyTable:
    """Structures and their labels of one property.

    Attributes
    ----------
    name : str
        Name of the property.
    place : str
        What messages call the table, such as ``tables['band gap']``.
    structures : list of Structure or Molecule, length n_rows
        As they passed `as_structures`.
    y : ndarray of float64, shape (n_rows,)
        Labels in ``unit``, NaN where one is missing.
    unit : str or None
        None if it was not given.
    """

    name: str
    place: str
    structures: list[Structure | Molecule]
    y: np.ndarray
    unit: str | None


def read_property_tables(tables: Any) -> list[PropertyTable]:
    """Return all tables in their order, checked one by one and against each other."""
    if not isinstance(tables, Mapping) or not tables:
        raise InvalidParameterError(
            f"'tables' must map names of properties to tables, at least one. Got {_shown(tables)}."
        )
    _check_names(list(tables))
    read = [_read_table(name, place, each) for name in tables for place, each in _places(name, tables[name])]
    _check_one_kind(read)
    _check_labelled(read)
    return read


def units_of(tables: list[PropertyTable], units: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the unit of each property, or say which tables differ."""
    names = dict.fromkeys(table.name for table in tables)
    for name in units:
        if name not in names:
            raise UnknownNameError(f"'units': {suggest(str(name), names, what='property')}")
    return {name: _unit_of(name, tables, units.get(name)) for name in names}


def _unit_of(name: str, tables: list[PropertyTable], stated: str | None) -> str | None:
    """Return the unit that the tables of a property have, or else the one stated for all of them."""
    given = {table.place: table.unit for table in tables if table.name == name}
    if stated is not None:
        given = {place: stated if unit is None else unit for place, unit in given.items()}
        given[f"units[{name!r}]"] = stated
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{place}: {unit or 'none'}" for place, unit in given.items())
        raise InvalidParameterError(
            f"The tables of {name!r} must have one unit. Got {listed}. Convert the labels, or name the "
            "properties apart; nothing is converted here."
        )
    return next(iter(given.values()))


# --- one table ---------------------------------------------------------------------------------------


def _places(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tables of one property, and what to call them."""
    if not isinstance(value, list):
        yield f"tables[{name!r}]", value
        return
    if not value:
        raise InvalidParameterError(f"tables[{name!r}] is an empty list; {_TABLE}.")
    yield from ((f"tables[{name!r}][{number}]", each) for number, each in enumerate(value))


def _read_table(name: str, place: str, value: Any) -> PropertyTable:
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        raise InvalidParameterError(f"{place}: {_TABLE}. Got {_shown(value)}.")
    X, y, unit = (*value, None)[:3]
    if unit is not None and not isinstance(unit, str):
        raise InvalidParameterError(f"{place}: the unit must be a str such as 'eV'. Got {_shown(unit)}.")
    try:
        structures = as_structures(X)
    except InvalidStructuresError as error:
        raise type(error)(f"{place}: {error}") from error
    return PropertyTable(name, place, structures, _read_labels(place, y, len(structures)), unit)


def _read_labels(place: str, y: Any, n_rows: int) -> np.ndarray:
    try:
        labels = np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidTargetsError(f"{place}: 'y' must hold numbers. Got: {error}.") from error
    if labels.shape != (n_rows,):
        raise InvalidTargetsError(
            f"{place}: 'y' must hold one label per structure, shape ({n_rows},). Got shape {labels.shape}."
        )
    infinite = np.flatnonzero(np.isinf(labels))
    if len(infinite):
        raise InvalidTargetsError(
            f"{place}: labels must be finite, or NaN where missing. "
            f"Got y[{infinite[0]}]={labels[infinite[0]]} ({len(infinite)} of {n_rows} rows)."
        )
    return labels


def _shown(value: Any) -> str:
    size = f" of length {len(value)}" if isinstance(value, tuple | list | Mapping) else ""
    return f"{type(value).__name__}{size}"


# --- all tables --------------------------------------------------------------------------------------


def _check_names(names: list[Any]) -> None:
    known: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise InvalidParameterError(f"Names of properties must be non-empty strings. Got {name!r}.")
        other = known.setdefault(name.strip().casefold(), name)
        if other != name:
            raise InvalidParameterError(
                f"The properties {other!r} and {name!r} clash: their names differ by case or blanks alone. "
                f"For two tables of one property pass a list: {{{other!r}: [(X, y), (X, y)]}}."
            )


def _check_one_kind(tables: list[PropertyTable]) -> None:
    """Raise if crystals and molecules are mixed; each table by itself is of one kind."""
    kinds = {hasattr(table.structures[0], "lattice"): table.place for table in tables}
    if len(kinds) > 1:
        raise InvalidStructuresError(
            f"'tables' mix crystals and molecules: {kinds[True]} is periodic, {kinds[False]} is not. Merge "
            "them apart."
        )


def _check_labelled(tables: list[PropertyTable]) -> None:
    labelled = {table.name for table in tables if np.isfinite(table.y).any()}
    for table in tables:
        if table.name not in labelled:
            raise InvalidTargetsError(
                f"{table.place}: all {len(table.y)} labels are NaN. Leave the property out, or check that "
                "the right column was read."
            )
