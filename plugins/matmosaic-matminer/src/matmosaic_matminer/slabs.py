"""Slabs: what a crystal holds between its widest gaps, whichever cell it is written in.

Gaps are looked for between all families of lattice planes whose spacing is not much smaller than that of
three independent ones. Reciprocal vectors up to such a length are the same for every cell of a lattice; those
along the axes of one cell, even of a reduced one, are not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Lengths of the reciprocal vectors that are looked along, by that of the third independent one. At least
# 1.82, so that they hold all that ACROSS asks for; no ratio that lattices often have.
REACH = 2.05
# The same for directions across a gap, by the length of the second independent one.
ACROSS = 1.51
# Gaps that differ by less are equal, in Å.
SAME_GAP = 1e-3
# Of a reciprocal vector, in lengths of the normal; vectors tilted more repeat the same lines of atoms.
LARGEST_TILT = 0.51
# Shorter reciprocal vectors (1/Å) and smaller products of two (1/Å^2) are zero.
ZERO = 1e-6


class Slab(NamedTuple):
    """What a primitive cell holds between a widest gap and the next image of that."""

    gaps: np.ndarray
    """The widest between planes of atoms, and the two widest across it, in Å, shape (3,)."""
    heights: np.ndarray
    """Of the atoms, the lowest at 0, in Å, shape (n_atoms,)."""
    area: float
    """Of the cell across the gap, in Å^2."""
    edges: np.ndarray
    """The two shortest of that cell, in Å, ascending."""


def find_slabs(structure: Any) -> list[Slab]:
    """Return the slabs of a crystal: one for each gap in a cell that is as wide as the widest.

    Parameters
    ----------
    structure : pymatgen Structure
        Any primitive cell of the crystal: the same slabs are found in each.

    Returns
    -------
    list of Slab
    """
    normals = _normals(structure.lattice)
    phases = structure.cart_coords @ normals.T
    gaps, middles = _gaps(phases, np.linalg.norm(normals, axis=1))
    found = []
    for row, plane in np.argwhere(gaps > gaps.max() - SAME_GAP):
        # Counted from the middle of the gap, where no atom is that rounding could move to the other side.
        levels = np.mod(phases[:, plane] - middles[row, plane], 1)
        length = float(np.linalg.norm(normals[plane]))
        area = structure.volume * length
        across, lengths = _across(normals, phases, plane, levels)
        heights = (levels - levels.min()) / length
        found.append(Slab(np.array([gaps[row, plane], *across]), heights, area, lengths * area))
    return found


def _gaps(phases: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps between atoms along each reciprocal vector in Å, and the phases of their middles."""
    places = np.sort(np.mod(phases, 1), axis=0)
    steps = np.diff(places, axis=0, append=places[:1] + 1)
    return steps / lengths, places + steps / 2


def _normals(lattice: Any) -> np.ndarray:
    """Return the normals of families of planes as reciprocal vectors in 1/Å, shape (n_families, 3)."""
    basis = lattice.reciprocal_lattice_crystallographic.get_lll_reduced_lattice().matrix
    longest = REACH * np.linalg.norm(basis, axis=1).max()
    most = np.floor(longest * np.linalg.norm(np.linalg.inv(basis), axis=0)).astype(int)
    indices = np.array([*np.ndindex(*(2 * most + 1))]) - most
    indices = indices[len(indices) // 2 + 1 :]  # one of each vector and its opposite
    indices = indices[np.gcd.reduce(indices, axis=1) == 1]
    vectors = indices @ basis
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.argsort(lengths)
    counts = range(3, len(order) + 1)
    third = next(count for count in counts if np.linalg.matrix_rank(indices[order[:count]]) == 3) - 1
    return vectors[lengths < REACH * lengths[order[third]]]


def _across(
    normals: np.ndarray, phases: np.ndarray, plane: int, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Look at a slab along its normal.

    Returns
    -------
    gaps : ndarray of shape (2,)
        The widest between lines of atoms and the widest in another direction, in Å.
    lengths : ndarray of shape (2,)
        Of the shortest reciprocal vectors in the plane, in 1/Å: times the area they are edges of the cell.
    """
    normal = normals[plane]
    tilts = normals @ normal / (normal @ normal)
    flat = normals - np.outer(tilts, normal)
    lengths = np.linalg.norm(flat, axis=1)
    kept = np.flatnonzero((np.abs(tilts) < LARGEST_TILT) & (lengths > ZERO))
    shortest = lengths[_independent(flat, kept[np.argsort(lengths[kept])])]
    kept = kept[lengths[kept] < ACROSS * shortest[1]]
    widths = np.zeros(len(flat))
    lines = phases[:, kept] - np.outer(levels, tilts[kept])
    widths[kept] = _gaps(lines, lengths[kept])[0].max(axis=0)
    return widths[_independent(flat, kept[np.argsort(-widths[kept])])], shortest


def _independent(vectors: np.ndarray, order: np.ndarray) -> list[int]:
    """Return the first row in an order, and the first of another direction."""
    crosses = np.linalg.norm(np.cross(vectors[order], vectors[order[0]]), axis=1)
    return [int(order[0]), int(order[np.argmax(crosses > ZERO)])]
