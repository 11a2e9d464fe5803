"""The graph of one structure, as plain arrays: what the cache keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class CrystalGraph(NamedTuple):
    """Neighbour graph of one structure, possibly compressed.

    Bonds are sorted by the atom they arrive at, so sums over an atom's bonds are contiguous.
    """

    numbers: np.ndarray
    """Atomic numbers, int64 of shape (n_atoms,); one atom of each class when compressed."""
    atom_weight: np.ndarray
    """Multiplicity of each atom, float64 of shape (n_atoms,); sums to the atoms of the cell."""
    edge_index: np.ndarray
    """Neighbour (row 0) and centre (row 1) of each bond, int64 of shape (2, n_bonds)."""
    distance: np.ndarray
    """Bond lengths in Å, float64 of shape (n_bonds,)."""
    bond_weight: np.ndarray
    """Neighbour places that each bond stands for, float64 of shape (n_bonds,)."""
    n_isolated: np.ndarray
    """Number of atoms without a neighbour inside the cutoff, int64 of shape (1,)."""

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(values.nbytes for values in self)
