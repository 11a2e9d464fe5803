"""Which structures of one set occur in another: what leaks from pre-training into a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from matmosaic.structures.arrays import StructureArrays, structure_arrays, structure_hash
from matmosaic.structures.gate import as_structures

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

Composition: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Which rows of one set of structures occur in another.

    Attributes
    ----------
    by_structure : ndarray of bool, shape (n_structures,)
        Rows that occur in the other set with the same numbers, by `structure_hash`.
    by_composition : ndarray of bool, shape (n_structures,)
        Rows whose reduced composition occurs there; all of ``by_structure`` are among them.
    """

    by_structure: np.ndarray
    by_composition: np.ndarray

    def __str__(self) -> str:
        """Count the rows in a sentence."""
        return (
            f"{self.by_structure.sum()} of {len(self.by_structure)} structures occur in the other set, and "
            f"{self.by_composition.sum()} share a composition with it."
        )


def overlap(X: Any, other: Any) -> Overlap:
    """Return which structures of ``X`` occur in another set, as they are and by composition.

    Use it before a test: what a network was pre-trained on must not be what it is tested on. The comparison
    by structure is exact, so the same crystal in another cell, or relaxed by another code, is found by its
    composition alone.

    Parameters
    ----------
    X : structures, length n_structures
        As `as_structures` takes them.
    other : structures
        The other set, likewise.

    Returns
    -------
    Overlap
        Two masks of the rows of ``X``.

    Raises
    ------
    InvalidStructuresError
        If a row of either set cannot be used.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> small, large = (Structure(Lattice.cubic(a), ["Po"], [[0, 0, 0]]) for a in (3.3, 3.4))
    >>> found = overlap([small, large], [small])
    >>> found.by_structure.tolist(), found.by_composition.tolist()
    ([True, False], [True, True])
    """
    rows, others = (list(map(structure_arrays, as_structures(one))) for one in (X, other))
    return Overlap(
        _occurs(map(structure_hash, rows), map(structure_hash, others)),
        _occurs(map(reduced_composition, rows), map(reduced_composition, others)),
    )


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


def _occurs(keys: Iterable[Any], others: Iterable[Any]) -> np.ndarray:
    known = set(others)
    return np.array([key in known for key in keys], dtype=bool)
