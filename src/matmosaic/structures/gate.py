"""The gate: the only place that knows what users may pass as ``X``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matmosaic.exceptions import InvalidStructuresError, StructureTypeError, UnsupportedElementError
from matmosaic.structures.rows import ACCEPTED_ROWS, convert_row, is_ase

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

ROWS_NAMED = 10
MIN_VOLUME = 1e-3  # Å^3; no atom fits into less, and dependent lattice vectors leave rounding errors


def as_structures(X: Any) -> list[Structure | Molecule]:
    """Return the rows of ``X`` as checked pymatgen structures, in their order.

    Parameters
    ----------
    X : list, tuple, Series, one-column DataFrame or object array of shape (n_structures,)
        Rows are pymatgen `Structure` or `Molecule` objects, ASE `Atoms` (without any periodicity they
        become a `Molecule`), dicts as of ``Structure.as_dict()`` or with the keys ``lattice``,
        ``species`` and ``frac_coords``, paths of CIF, POSCAR or other structure files, or CIF, POSCAR or JSON
        text. Nothing of it is changed.

    Returns
    -------
    list of Structure or Molecule, length n_structures
        Rows that were such objects already are the same objects.

    Raises
    ------
    StructureTypeError
        If ``X`` or one of its rows is of another type; among others a single structure, and
        ``np.array(structures)``, which makes an array of atoms (see `to_object_array`).
    UnsupportedElementError
        If a site holds something that is no element.
    InvalidStructuresError
        If ``X`` is empty or mixes crystals and molecules, or if a row cannot be read, is disordered, has
        no atoms, or has coordinates or a lattice that are not finite numbers.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> copper = Structure(Lattice.cubic(3.6), ["Cu"] * 4, [[0, 0, 0], [0, .5, .5], [.5, 0, .5], [.5, .5, 0]])
    >>> [structure.formula for structure in as_structures([copper, copper.as_dict()])]
    ['Cu4', 'Cu4']
    """
    structures = read_rows(_rows(X), describe_row)
    _check_one_kind(structures)
    return structures


def usable_structures(X: Any) -> tuple[list[Structure | Molecule], np.ndarray]:
    """Return the structures of the rows that can be used, and which rows these are.

    Parameters
    ----------
    X : structures, length n_structures
        As `as_structures` takes them.

    Returns
    -------
    structures : list of Structure or Molecule, length n_usable
        What could be read.
    rows : ndarray of int64, shape (n_usable,)
        Their numbers in ``X``.
    """
    structures, rows = [], []
    for index, row in enumerate(_rows(X)):
        try:
            structures += read_rows([row], describe_row)
            rows.append(index)
        except InvalidStructuresError:
            continue
    _check_one_kind(structures)
    return structures, np.array(rows, dtype=np.int64)


def read_rows(
    rows: Iterable[Any], describe: Callable[[int, Structure | Molecule | None], str]
) -> list[Structure | Molecule]:
    """Convert and check rows one after the other; the part of the gate that data files share.

    Parameters
    ----------
    rows : iterable
        Rows as `as_structures` takes them.
    describe : callable
        Names a row in a message, given its number and, once there is one, its structure.

    Returns
    -------
    list of Structure or Molecule, length n_rows

    Raises
    ------
    InvalidStructuresError
        After all rows have been seen: the first unusable row and why, and which others are unusable.
    """
    from pymatgen.core import DummySpecies, Molecule, Structure  # once here, not for every row

    structures: list[Structure | Molecule] = []
    problems: dict[int, InvalidStructuresError] = {}
    for index, row in enumerate(rows):
        structure = None
        try:
            structure = row if isinstance(row, Structure | Molecule) else convert_row(row)
            _check_structure(structure, DummySpecies)
            structures.append(structure)
        except InvalidStructuresError as error:
            problems[index] = type(error)(f"{describe(index, structure)} {error}")
    if problems:
        raise _joined(problems, describe)
    return structures


def to_object_array(X: Any) -> np.ndarray:
    """Return the rows of ``X`` in a one-dimensional array of objects.

    ``np.array(structures)`` takes each structure for a sequence of atoms, and makes a two-dimensional
    array of them wherever the structures are of one size. This does not.

    Parameters
    ----------
    X : list, tuple, Series, one-column DataFrame or object array of shape (n_structures,)
        Rows of any type; they are neither converted nor checked.

    Returns
    -------
    ndarray of object, shape (n_structures,)

    Raises
    ------
    StructureTypeError
        If ``X`` is of another type.
    InvalidStructuresError
        If ``X`` is empty.

    Examples
    --------
    >>> to_object_array([[1, 2], [3, 4]]).shape
    (2,)
    """
    rows = _rows(X)
    array = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        array[index] = row
    return array


def describe_row(index: int, structure: Any = None) -> str:
    """Name a row in a message, such as ``X[17] (NaCl)``.

    Parameters
    ----------
    index : int
        Number of the row in ``X``, from 0.
    structure : Structure or Molecule, optional
        The structure of the row; without it the formula is left out.

    Returns
    -------
    str
    """
    composition = getattr(structure, "composition", None)
    if not composition:
        return f"X[{index}]"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen misses the electronegativity of noble gases
        return f"X[{index}] ({composition.reduced_formula})"


# --- rows --------------------------------------------------------------------------------------------


def _rows(X: Any) -> list[Any]:
    """Return the rows of the container ``X``, never by way of ``np.asarray``."""
    rows = _unpacked(X)
    if len(rows) == 0:
        raise InvalidStructuresError("X is empty; expected at least one structure.")
    if _is_site(rows[0]):
        raise _sites_error("holds atoms")
    return rows


def _unpacked(X: Any) -> list[Any]:
    import pandas as pd

    if isinstance(X, list | tuple):
        return list(X)
    if isinstance(X, pd.Series):
        return X.tolist()
    if isinstance(X, pd.DataFrame):
        return _only_column(X)
    if isinstance(X, np.ndarray):
        return _array_rows(X)
    if _is_one_structure(X):
        raise StructureTypeError(
            f"X is a single {type(X).__name__}; expected a list of structures. Pass [X]."
        )
    raise StructureTypeError(
        f"X is of type {type(X).__name__}; expected a list, tuple, Series, one-column DataFrame or 1-d "
        f"object array whose rows are: {ACCEPTED_ROWS}."
    )


def _only_column(frame: Any) -> list[Any]:
    if frame.shape[1] != 1:
        raise StructureTypeError(
            f"X is a DataFrame of {frame.shape[1]} columns; expected one column of structures. "
            "Pass the column itself, such as frame['structure']."
        )
    return frame.iloc[:, 0].tolist()


def _array_rows(array: np.ndarray) -> list[Any]:
    if array.dtype.kind not in "OU":
        raise StructureTypeError(
            f"X is an array of {array.dtype} and shape {array.shape}; expected structures, not numbers. "
            "Features of structures go to an ordinary scikit-learn estimator."
        )
    if array.ndim > 1 and array.size and _is_site(array.flat[0]):
        raise _sites_error(f"is an array of atoms of shape {array.shape}")
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise StructureTypeError(
            f"X is an array of shape {array.shape}; expected one structure per row, shape (n_structures,)."
        )
    return array.ravel().tolist()


def _is_site(row: Any) -> bool:
    from pymatgen.core import Site

    return isinstance(row, Site) or is_ase(row, "Atom")


def _sites_error(what: str) -> StructureTypeError:
    return StructureTypeError(
        f"X {what}, not structures: np.array(structures) and list(structure) take a structure apart. "
        "Pass a list of structures, or matmosaic.to_object_array(structures) where an array is needed."
    )


def _is_one_structure(X: Any) -> bool:
    from pathlib import Path

    from pymatgen.core import SiteCollection

    return isinstance(X, SiteCollection | dict | str | Path) or is_ase(X, "Atoms")


# --- checks ------------------------------------------------------------------------------------------


def _check_structure(structure: Structure | Molecule, dummy: type) -> None:
    """Raise if graphs cannot be built from the structure.

    Every structure passes here at every `fit` and `predict`: keep it under a microsecond per atom.
    """
    if not len(structure):
        raise InvalidStructuresError("has no atoms.")
    for number, site in enumerate(structure.sites):
        species = site.species
        if len(species) != 1 or species.num_atoms != 1:
            raise _disorder_error(structure, number)
        if isinstance(next(iter(species)), dummy):
            raise UnsupportedElementError(
                f"has {site.species_string!r} on site {number}, which is no element; replace it."
            )
    _check_geometry(structure)


def _disorder_error(structure: Structure | Molecule, number: int) -> InvalidStructuresError:
    return InvalidStructuresError(
        f"is disordered: site {number} holds {structure[number].species_string!r}; expected one whole atom "
        "on every site. Make an ordered cell of it, for example with pymatgen's "
        "OrderDisorderedStructureTransformation."
    )


def _check_geometry(structure: Structure | Molecule) -> None:
    lattice: Any = getattr(structure, "lattice", None)
    coordinates = getattr(structure, "cart_coords" if lattice is None else "frac_coords")
    flat = coordinates.ravel()
    # One inner product is finite only if all coordinates are.
    if not math.isfinite(flat.dot(flat)):
        site = int(np.flatnonzero(~np.isfinite(coordinates).all(axis=1))[0])
        raise InvalidStructuresError(
            f"has coordinates that are not finite numbers, first on site {site}; correct them."
        )
    if lattice is not None and not MIN_VOLUME < _volume(lattice.matrix.tolist()) < math.inf:
        raise InvalidStructuresError(
            "has a lattice that spans no finite volume; expected three finite, independent vectors in Å."
        )


def _volume(vectors: Sequence[Sequence[float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = vectors
    return abs(a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g))


def _joined(
    problems: dict[int, InvalidStructuresError], describe: Callable[[int, None], str]
) -> InvalidStructuresError:
    """Return the first row's error, with the names of the other rows."""
    first, *others = problems
    error = problems[first]
    if not others:
        return error
    names = [describe(index, None) for index in others[:ROWS_NAMED]]
    named = ", ".join([*names, "..."] if len(others) > ROWS_NAMED else names)
    return type(error)(f"{error} {len(others)} more cannot be used: {named}.")


def _check_one_kind(structures: Sequence[Structure | Molecule]) -> None:
    from pymatgen.core import IStructure

    def first(wanted: Callable[[bool], bool]) -> int | None:
        return next((i for i, s in enumerate(structures) if wanted(isinstance(s, IStructure))), None)

    crystal, molecule = first(bool), first(lambda periodic: not periodic)
    if crystal is not None and molecule is not None:
        raise InvalidStructuresError(
            f"X mixes crystals and molecules: {describe_row(crystal, structures[crystal])} is periodic, "
            f"{describe_row(molecule, structures[molecule])} is not. Fit and predict them apart."
        )
