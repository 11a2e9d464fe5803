"""Nearest neighbours of many periodic structures at once.

The search itself is pymatgen's compiled ``find_points_in_spheres``, one call per structure;
everything after it (sorting, choosing the nearest, sharing ties, padding) is array arithmetic
over all atoms of all structures together. This is the only file that calls a neighbour library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matmosaic.graphs.settings import GraphSettings
from matmosaic.structures import StructureArrays

# Two points closer than this (Å) are one: an atom is not its own neighbour.
SELF_DISTANCE = 1e-8
# Radii (Å) tried before the full cutoff when candidates are thinned out before sorting.
RADII = np.array([3.5, 4.5, 5.5, 6.5])


@dataclass(frozen=True, slots=True)
class Bonds:
    """Bonds of many structures, sorted by centre and then by length.

    Attributes
    ----------
    center, neighbor : ndarray of int64, shape (n_bonds,)
        Atom numbers counted over all structures.
    distance : ndarray of float64, shape (n_bonds,)
        Length in Å.
    weight : ndarray of float64, shape (n_bonds,)
        Share of a neighbour place; the weights of an atom's bonds sum to ``max_neighbors``.
    isolated : ndarray of bool, shape (n_atoms,)
        Atoms without any neighbour inside the cutoff.
    """

    center: np.ndarray
    neighbor: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    isolated: np.ndarray


def find_bonds(structures: Sequence[StructureArrays], settings: GraphSettings) -> Bonds:
    """Return the bonds that the settings ask for, of all structures.

    Parameters
    ----------
    structures : sequence of StructureArrays
        Positions and lattices in Å.
    settings : GraphSettings
        Cutoff, number of neighbours and treatment of ties.

    Returns
    -------
    Bonds
        Sorted by centre, then by distance.
    """
    counts = np.array([structure.n_atoms for structure in structures], dtype=np.int64)
    first_atom = np.repeat(np.cumsum(counts) - counts, counts)
    center, neighbor, _, distance = search(structures, settings.cutoff)
    # The tolerance keeps a shell whole that straddles the radius.
    near = distance <= enough_radius(center, distance, len(first_atom), settings)[center] + settings.tolerance
    candidates = center[near], neighbor[near], distance[near]
    center, neighbor, distance, weight = _choose(*candidates, len(first_atom), settings)
    found = np.bincount(center, minlength=len(first_atom))
    places = np.bincount(center, weights=weight, minlength=len(first_atom))
    lacking = np.flatnonzero(places < settings.n_places - 0.5)
    if len(lacking):
        missing = settings.n_places - np.rint(places[lacking]).astype(np.int64)
        padding = _padding(lacking, missing, first_atom, settings)
        merged = [
            np.concatenate(pair) for pair in zip((center, neighbor, distance, weight), padding, strict=True)
        ]
        order = np.argsort(merged[0], kind="stable")
        center, neighbor, distance, weight = (values[order] for values in merged)
    return Bonds(center, neighbor, distance, weight, isolated=found == 0)


def search(
    structures: Sequence[StructureArrays], cutoff: float
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Return all pairs of atoms within the cutoff.

    Parameters
    ----------
    structures : sequence of StructureArrays
        Positions and lattices in Å.
    cutoff : float
        Largest distance in Å.

    Returns
    -------
    center, neighbor : ndarray of int64, shape (n_pairs,)
        Atom numbers counted over all structures.
    images : list of ndarray of float64, shape (n_pairs of one structure, 3)
        The cell of each neighbour, in lattice vectors; left apart because few callers read them.
    distance : ndarray of float64, shape (n_pairs,)
        In Å.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    centers, neighbors, images, distances = [], [], [], []
    offset = 0
    for structure in structures:
        periodic = bool(structure.pbc.any())
        center, neighbor, image, distance = find_points_in_spheres(
            structure.positions,
            structure.positions,
            r=cutoff,
            pbc=structure.pbc.astype(np.int64),
            lattice=structure.lattice if periodic else np.eye(3),
            tol=SELF_DISTANCE,
        )
        other = (center != neighbor) | (distance > SELF_DISTANCE)
        if not other.all():
            center, neighbor, image, distance = center[other], neighbor[other], image[other], distance[other]
        centers.append(center + offset)
        neighbors.append(neighbor + offset)
        images.append(image)
        distances.append(distance)
        offset += structure.n_atoms
    return np.concatenate(centers), np.concatenate(neighbors), images, np.concatenate(distances)


def enough_radius(
    center: np.ndarray, distance: np.ndarray, n_atoms: int, settings: GraphSettings
) -> np.ndarray:
    """Return a radius in Å for each atom that surely holds its nearest neighbours.

    What lies beyond need not be sorted, which is the costly step.

    Parameters
    ----------
    center, distance : ndarray, shape (n_pairs,)
        Of all pairs within the cutoff.
    n_atoms : int
        Number of atoms.
    settings : GraphSettings
        How many neighbours.

    Returns
    -------
    ndarray of float64, shape (n_atoms,)
        Infinite where all neighbours are needed.
    """
    n_radii = len(RADII) + 1
    level = np.searchsorted(RADII, distance)
    within = np.bincount(center * n_radii + level, minlength=n_atoms * n_radii).reshape(n_atoms, n_radii)
    enough = within.cumsum(axis=1) >= settings.n_places
    return np.append(RADII, np.inf)[np.where(enough.any(axis=1), enough.argmax(axis=1), n_radii - 1)]


def _choose(
    center: np.ndarray, neighbor: np.ndarray, distance: np.ndarray, n_atoms: int, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Keep each atom's nearest neighbours and give them their weights."""
    # lexsort is stable: equal distances stay in the order found, which ``ties="reference"`` means.
    order = np.lexsort((distance, center))
    center, neighbor, distance = center[order], neighbor[order], distance[order]
    counts = np.bincount(center, minlength=n_atoms)
    start = np.cumsum(counts) - counts
    rank = np.arange(len(center)) - start[center]
    if settings.ties == "reference":
        weight = (rank < settings.n_places).astype(float)
    else:
        last = np.full(n_atoms, np.inf)
        full = counts >= settings.n_places
        last[full] = distance[start[full] + settings.n_places - 1]
        weight = _shared_places(center, distance - last[center], settings, n_atoms)
    kept = weight > 0
    return center[kept], neighbor[kept], distance[kept], weight[kept]


def _shared_places(
    center: np.ndarray, beyond: np.ndarray, settings: GraphSettings, n_atoms: int
) -> np.ndarray:
    """Give whole places to bonds inside the last shell and share the rest among the shell's bonds.

    ``beyond`` is each bond's length minus that of its centre's last bond, in Å.
    """
    inside = beyond < -settings.tolerance
    shell = np.abs(beyond) <= settings.tolerance
    left = settings.n_places - np.bincount(center[inside], minlength=n_atoms)
    share = left / np.maximum(np.bincount(center[shell], minlength=n_atoms), 1)
    return np.where(inside, 1.0, np.where(shell, share[center], 0.0))


def _padding(
    atoms: np.ndarray, missing: np.ndarray, first_atom: np.ndarray, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bonds that fill the missing places of some atoms.

    The published weights were trained with the structure's first atom in those places, which
    depends on the order of the atoms; ``ties="fractional"`` puts the atom itself there.
    """
    if settings.ties == "reference":
        center, weight = np.repeat(atoms, missing), np.ones(missing.sum())
        neighbor = first_atom[center]
    else:
        center, neighbor, weight = atoms, atoms, missing.astype(float)
    return center, neighbor, np.full(len(center), settings.padding_distance), weight
