"""Bonds that exist in both directions, as graphs with angles need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matmosaic.graphs.neighbors import enough_radius, search
from matmosaic.graphs.settings import GraphSettings
from matmosaic.structures import StructureArrays

# Two points closer than this (Å), whether or not they are one atom, are no pair: between atoms on one site
# there is no direction to measure an angle from. The published ALIGNN draws the line here, too.
SHORTEST_BOND = 0.15


@dataclass(frozen=True, slots=True)
class MutualBonds:
    """Bonds of many structures, each present in both directions, sorted by centre and then by length.

    Attributes
    ----------
    center, neighbor : ndarray of int64, shape (n_bonds,)
        Atom numbers counted over all structures; a message goes from the neighbour to the centre.
    vector : ndarray of float64, shape (n_bonds, 3)
        Position of the centre minus that of the neighbour, in Å.
    reverse : ndarray of int64, shape (n_bonds,)
        Row of the same bond in the opposite direction.
    isolated : ndarray of bool, shape (n_atoms,)
        Atoms without any neighbour inside the cutoff that the settings name.
    """

    center: np.ndarray
    neighbor: np.ndarray
    vector: np.ndarray
    reverse: np.ndarray
    isolated: np.ndarray


def find_mutual_bonds(structures: Sequence[StructureArrays], settings: GraphSettings) -> MutualBonds:
    """Return the bonds to the nearest neighbours, whole shells of them, or to all, of all structures.

    A bond is there if it is among the nearest of either of its atoms. An atom with fewer than
    ``max_neighbors`` neighbours inside the cutoff is bonded to all of them. Atoms that are no farther apart
    than ``SHORTEST_BOND`` are not bonded to each other.

    Parameters
    ----------
    structures : sequence of StructureArrays
        Positions and lattices in Å.
    settings : GraphSettings
        Cutoff, number of neighbours (None for all) and tolerance.

    Returns
    -------
    MutualBonds
        Sorted by centre, then by length.
    """
    counts = np.array([structure.n_atoms for structure in structures], dtype=np.int64)
    n_atoms = int(counts.sum())
    center, neighbor, images, distance = search(structures, settings.cutoff)
    apart = distance > SHORTEST_BOND
    if settings.max_neighbors is not None:
        radius = enough_radius(center[apart], distance[apart], n_atoms, settings)
        apart &= distance <= np.maximum(radius[center], radius[neighbor]) + settings.tolerance
    kept = np.flatnonzero(apart)
    # Sorted by centre and distance, so that an atom's last place can be read off.
    kept = kept[np.lexsort((distance[kept], center[kept]))]
    if settings.max_neighbors is not None:
        last = _last_place(center[kept], distance[kept], n_atoms, settings.n_places)
        last = np.maximum(last[center[kept]], last[neighbor[kept]])
        kept = kept[distance[kept] <= last + settings.tolerance]
    center, neighbor, image = center[kept], neighbor[kept], np.concatenate(images)[kept]
    rows, reverse = _mutual(center, neighbor, np.rint(image).astype(np.int64))
    center, neighbor, image = center[rows], neighbor[rows], image[rows]
    vector = _vectors(structures, counts, center, neighbor, image)
    isolated = np.bincount(center, minlength=n_atoms) == 0
    return MutualBonds(center, neighbor, vector, reverse, isolated)


def _last_place(center: np.ndarray, distance: np.ndarray, n_atoms: int, n_places: int) -> np.ndarray:
    """Return how far the last of the nearest neighbours of each atom is, infinite where there are too few."""
    counts = np.bincount(center, minlength=n_atoms)
    start = np.cumsum(counts) - counts
    full = counts >= n_places
    last = np.full(n_atoms, np.inf)
    last[full] = distance[start[full] + n_places - 1]
    return last


def _vectors(
    structures: Sequence[StructureArrays],
    counts: np.ndarray,
    center: np.ndarray,
    neighbor: np.ndarray,
    image: np.ndarray,
) -> np.ndarray:
    """Return position of the centre minus that of the neighbour's image, in Å."""
    positions = np.concatenate([structure.positions for structure in structures])
    lattices = np.stack([structure.lattice for structure in structures])
    owner = np.repeat(np.arange(len(counts)), counts)[center]
    shift = np.einsum("bi,bij->bj", image, lattices[owner])
    return positions[center] - positions[neighbor] - shift


def _mutual(center: np.ndarray, neighbor: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bonds whose opposite is there, and which of these it is.

    Both directions have the same length but for its last digits, and these decide where a bond is exactly as
    long as the shortest one, or, without a tolerance, as the last of the nearest.
    """
    far = int(np.abs(image).max(initial=0))
    n_atoms = int(center.max(initial=0)) + 1
    # Atoms and cells as digits of one number, which sorts fast.
    base = 2 * far + 1
    digits = np.array([base * base, base, 1])
    there = (center * n_atoms + neighbor) * base**3 + (far + image) @ digits
    back = (neighbor * n_atoms + center) * base**3 + (far - image) @ digits
    rows = np.arange(len(center))
    forward, backward = np.argsort(there), np.argsort(back)
    if not np.array_equal(there[forward], back[backward]):
        rows = np.flatnonzero(np.isin(back, there))
        forward, backward = np.argsort(there[rows]), np.argsort(back[rows])
    reverse = np.empty(len(rows), dtype=np.int64)
    reverse[backward] = forward
    return rows, reverse
