"""Atoms far from their cell, brought back: a search lays a grid over all that lies between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from matmosaic.structures import StructureArrays

# Atoms up to this many cells away are searched where they are: moving them changes the last digits of
# distances, which decide about shells where ``ties="reference"``.
FAR_CELLS = 10


def near_cell(structure: StructureArrays) -> StructureArrays:
    """Return a structure with all its atoms in the first cell, if any of them is far from it.

    The crystal and the vectors of its bonds stay the same.

    Parameters
    ----------
    structure : StructureArrays
        Positions and lattice in Å.

    Returns
    -------
    StructureArrays
        The same object where all atoms are within ``FAR_CELLS`` cells. Coordinates along lattice vectors
        that do not repeat stay as they are.
    """
    if not structure.pbc.any():
        return structure
    fractional = fractional_coordinates(structure)
    if np.abs(fractional[:, structure.pbc]).max() <= FAR_CELLS:
        return structure
    near = fractional - np.where(structure.pbc, np.floor(fractional), 0.0)
    return replace(structure, positions=near @ structure.lattice, fractional=near)


def fractional_coordinates(structure: StructureArrays) -> np.ndarray:
    """Return the fractional coordinates that belong to the positions, the given ones where they still do.

    Parameters
    ----------
    structure : StructureArrays
        A crystal or slab.

    Returns
    -------
    ndarray of float64, shape (n_atoms, 3)
        In lattice vectors.
    """
    given = structure.fractional
    if given is not None and np.array_equal(given @ structure.lattice, structure.positions):
        return given
    return np.linalg.solve(structure.lattice.T, structure.positions.T).T
