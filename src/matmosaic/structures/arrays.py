"""A structure as plain arrays, and the hash by which its graph is kept."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, cast

import numpy as np

from matmosaic.exceptions import InvalidStructuresError

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure


@dataclass(frozen=True, slots=True, eq=False)
class StructureArrays:
    """One ordered structure as arrays: all that graphs are built from.

    Attributes
    ----------
    numbers : ndarray of int64, shape (n_atoms,)
        Atomic numbers; deuterium and tritium count as hydrogen.
    positions : ndarray of float64, shape (n_atoms, 3)
        Cartesian coordinates in Å.
    lattice : ndarray of float64, shape (3, 3)
        Lattice vectors in Å, one per row; zeros for a molecule.
    pbc : ndarray of bool, shape (3,)
        Along which lattice vectors the structure repeats.
    fractional : ndarray of float64, shape (n_atoms, 3), or None
        The fractional coordinates (no unit) from which ``positions`` were computed, if they were. Only
        `structure_hash` reads them.
    """

    numbers: np.ndarray
    positions: np.ndarray
    lattice: np.ndarray
    pbc: np.ndarray
    fractional: np.ndarray | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)


def structure_arrays(structure: Structure | Molecule) -> StructureArrays:
    """Return the arrays of one structure that has passed `as_structures`.

    Oxidation states, charges, labels and site properties are left behind.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule
        Ordered: one whole atom on every site. It is not changed.

    Returns
    -------
    StructureArrays

    Raises
    ------
    InvalidStructuresError
        If a site holds several species.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> cscl = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> arrays = structure_arrays(cscl)
    >>> arrays.numbers.tolist(), arrays.positions[1].tolist()
    ([55, 17], [2.0, 2.0, 2.0])
    """
    numbers = _atomic_numbers(structure)
    if not hasattr(structure, "lattice"):
        return StructureArrays(numbers, structure.cart_coords, np.zeros((3, 3)), np.zeros(3, dtype=bool))
    crystal = cast("Structure", structure)
    matrix, fractional = crystal.lattice.matrix.copy(), crystal.frac_coords
    # The product pymatgen takes too: published graphs break ties between bonds by its last bit.
    positions = fractional @ matrix
    return StructureArrays(numbers, positions, matrix, np.array(crystal.lattice.pbc), fractional)


def _atomic_numbers(structure: Structure | Molecule) -> np.ndarray:
    try:
        numbers = [specie.Z for (specie,) in (site.species for site in structure.sites)]
    except ValueError as error:
        raise InvalidStructuresError(
            f"{structure.composition.reduced_formula} is disordered; pass it through `as_structures` first."
        ) from error
    return np.array(numbers, dtype=np.int64)


def structure_hash(structure: Structure | Molecule | StructureArrays) -> str:
    """Return a key that two structures share if, and in practice only if, they hold the same numbers.

    It is taken over atomic numbers, lattice, coordinates and periodicity, and over nothing else: not over
    oxidation states, charges, labels or site properties. Every change of a coordinate changes it. It is
    the key of caches and no crystallographic fingerprint: another cell, origin or order of atoms of the
    same crystal has another hash.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule, or StructureArrays
        A structure that has passed `as_structures`, or its arrays: both have the same hash.

    Returns
    -------
    str
        32 hexadecimal digits (BLAKE2b, 128 bits), the same in every process and on every platform.

    Notes
    -----
    The coordinates of a crystal enter as fractions, as the structure holds them. Its Cartesian ones are a
    matrix product whose last bit differs between machines, so they enter only for molecules and where
    they have been replaced since.
    """
    arrays = structure if isinstance(structure, StructureArrays) else structure_arrays(structure)
    coordinates = arrays.positions
    if arrays.fractional is not None and np.array_equal(arrays.fractional @ arrays.lattice, coordinates):
        coordinates = arrays.fractional
    digest = blake2b(b"fractional" if coordinates is arrays.fractional else b"cartesian", digest_size=16)
    digest.update(arrays.pbc.astype(np.uint8).tobytes())
    digest.update(arrays.numbers.astype("<i8").tobytes())
    digest.update(_canonical_bytes(arrays.lattice))
    digest.update(_canonical_bytes(coordinates))
    return digest.hexdigest()


def _canonical_bytes(values: np.ndarray) -> bytes:
    """Return the little-endian bytes of the values; adding zero turns -0.0 into 0.0."""
    return (values + 0.0).astype("<f8").tobytes()
