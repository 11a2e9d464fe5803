"""Which structures are the same crystal: by their numbers, or within a matcher's tolerance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from math import gcd
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from matmosaic.exceptions import InvalidParameterError
from matmosaic.structures.arrays import StructureArrays, structure_arrays, structure_hash

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

Composition: TypeAlias = tuple[tuple[int, int], ...]


class Matcher(Protocol):
    """What compares crystals: pymatgen's ``StructureMatcher``, or anything with this method."""

    def group_structures(self, s_list: Any) -> Sequence[Sequence[Structure]]:
        """Return the structures of the list, the same objects, in groups of one crystal each."""


def group_structures(
    structures: Iterable[Structure | Molecule | StructureArrays], *, matcher: Matcher | None = None
) -> np.ndarray:
    """Give each structure a number that those of the same crystal share.

    Parameters
    ----------
    structures : iterable of Structure, Molecule or StructureArrays
        Structures that have passed `as_structures`, or their arrays.
    matcher : Matcher, optional
        Such as ``pymatgen.analysis.structure_matcher.StructureMatcher()``, which finds a crystal again in
        another cell, and relaxed by another method; with pymatgen's settings also at another volume. It
        sees elements and coordinates alone, and compares within equal reduced compositions. Without it,
        structures must agree in every number (`structure_hash`).

    Returns
    -------
    ndarray of int64, shape (n_structures,)
        Numbers from 0, in the order in which the crystals first appear.

    Raises
    ------
    InvalidParameterError
        If the matcher is none, such as a class in place of an object of it, or if there are molecules of one
        composition for it to compare.

    Examples
    --------
    >>> from pymatgen.analysis.structure_matcher import StructureMatcher
    >>> from pymatgen.core import Lattice, Structure
    >>> cell = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    >>> group_structures([cell, cell * 2, cell]).tolist()
    [0, 1, 0]
    >>> group_structures([cell, cell * 2, cell], matcher=StructureMatcher()).tolist()
    [0, 0, 0]
    """
    _check_matcher(matcher)
    arrays = [one if isinstance(one, StructureArrays) else structure_arrays(one) for one in structures]
    groups = _numbered(map(structure_hash, arrays))
    if matcher is None or not arrays:
        return groups
    _, first = np.unique(groups, return_index=True)
    return _numbered(_matched([arrays[row] for row in first], matcher)[groups].tolist())


def reduced_composition(structure: Structure | Molecule | StructureArrays) -> Composition:
    """Return the elements of a structure and how many of each there are in a formula unit.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule, or StructureArrays
        A structure that has passed `as_structures`, or its arrays.

    Returns
    -------
    tuple of (int, int)
        Atomic numbers, rising, and the smallest whole numbers of atoms in their ratio.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> reduced_composition(rock_salt)
    ((11, 1), (17, 1))
    """
    arrays = structure if isinstance(structure, StructureArrays) else structure_arrays(structure)
    numbers, counts = np.unique(arrays.numbers, return_counts=True)
    unit = gcd(*counts.tolist())
    return tuple(zip(numbers.tolist(), (counts // unit).tolist(), strict=True))


def _check_matcher(matcher: Any) -> None:
    if isinstance(matcher, type):
        raise InvalidParameterError(
            f"'matcher' must be an object. Got the class {matcher.__name__}; give {matcher.__name__}()."
        )
    if matcher is not None and not callable(getattr(matcher, "group_structures", None)):
        raise InvalidParameterError(
            "'matcher' must have a method 'group_structures', as pymatgen's StructureMatcher() has, or be "
            f"None. Got {matcher!r}."
        )


def _numbered(keys: Iterable[Hashable]) -> np.ndarray:
    """Return for each key its number in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _matched(arrays: list[StructureArrays], matcher: Matcher) -> np.ndarray:
    """Return for each structure the row of the first that the matcher puts into its group."""
    groups = np.arange(len(arrays))
    rows_of: dict[Composition, list[int]] = defaultdict(list)
    for row, one in enumerate(arrays):
        rows_of[reduced_composition(one)].append(row)
    for rows in rows_of.values():
        if len(rows) > 1:
            bare = [_bare_structure(arrays[row]) for row in rows]
            row_of = dict(zip(map(id, bare), rows, strict=True))
            for group in matcher.group_structures(bare):
                members = [row_of[id(one)] for one in group]
                groups[members] = min(members)
    return groups


def _bare_structure(arrays: StructureArrays) -> Structure:
    """Return a crystal without charges and labels, which a matcher would compare."""
    from pymatgen.core import Lattice, Structure

    if not arrays.pbc.any():
        raise InvalidParameterError(
            "'matcher' compares crystals. Got molecules; leave it out to compare them by their numbers."
        )
    lattice = Lattice(arrays.lattice, pbc=tuple(arrays.pbc.tolist()))
    return Structure(lattice, arrays.numbers.tolist(), arrays.positions, coords_are_cartesian=True)
