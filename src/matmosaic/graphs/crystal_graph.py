"""The graph of one structure, as plain arrays: what the cache keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

NO_VECTORS, NO_INDICES, NO_VALUES = np.empty((0, 3)), np.empty((2, 0), dtype=np.int64), np.empty(0)
NO_BONDS = np.empty(0, dtype=np.int64)


class CrystalGraph(NamedTuple):
    """Neighbour graph of one structure, possibly compressed.

    Bonds are sorted by the atom they arrive at, so sums over an atom's bonds are contiguous; angles by the
    bond they arrive at. A graph has no angles, or those that compression or a cutoff left, or the vectors of
    its bonds, of which a batch derives them.
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
    vector: np.ndarray = NO_VECTORS
    """From neighbour to centre in Å, float64 of shape (n_bonds, 3)."""
    angle_index: np.ndarray = NO_INDICES
    """Sending (row 0) and receiving bond (row 1) of each angle, int64 of shape (2, n_angles)."""
    cosine: np.ndarray = NO_VALUES
    """Cosines of the angles, float64 of shape (n_angles,); 1 where a bond turns back."""
    angle_weight: np.ndarray = NO_VALUES
    """Angles at one receiving bond that each stands for, float64 of shape (n_angles,)."""
    reverse: np.ndarray = NO_BONDS
    """The same bond in the opposite direction, int64 of shape (n_bonds,); in undirected graphs."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, without what a graph need not have and has not."""
        needed = CrystalGraph._field_defaults.keys() ^ CrystalGraph._fields
        return {name: values for name, values in self._asdict().items() if name in needed or values.size}

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(values.nbytes for values in self.arrays().values())


def split_graphs(
    structure: np.ndarray,
    isolated: np.ndarray,
    atoms: Mapping[str, np.ndarray],
    bonds: Mapping[str, np.ndarray],
    angles: Mapping[str, np.ndarray] | None = None,
) -> list[CrystalGraph]:
    """Cut arrays of several structures into one graph per structure.

    Parameters
    ----------
    structure : ndarray of int64, shape (n_atoms,)
        The structure that each atom belongs to, ascending.
    isolated : ndarray of int64, shape (n_structures,)
        Number of isolated atoms.
    atoms, bonds, angles : mapping of str to ndarray
        Fields of the graphs whose rows are atoms, bonds and angles; indices counted over all structures.

    Returns
    -------
    list of CrystalGraph
        With copies of the arrays, so that none keeps those of all structures in memory.
    """
    numbers = np.arange(len(isolated) + 1)
    first_atom = np.searchsorted(structure, numbers)
    first_bond = np.searchsorted(structure[bonds["edge_index"][1]], numbers)
    cuts = [(atoms, first_atom), (bonds, first_bond)]
    shifts = {"edge_index": first_atom, "angle_index": first_bond, "reverse": first_bond}
    if angles is not None:
        cuts.append((angles, np.searchsorted(angles["angle_index"][1], first_bond)))
    graphs = []
    for row in range(len(isolated)):
        fields = {"n_isolated": isolated[row : row + 1].copy()}
        for level, first in cuts:
            for name, values in level.items():
                rows = slice(first[row], first[row + 1])
                fields[name] = (
                    values[..., rows] - shifts[name][row] if name in shifts else values[rows].copy()
                )
        graphs.append(CrystalGraph(**fields))
    return graphs
