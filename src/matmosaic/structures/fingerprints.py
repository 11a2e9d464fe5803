"""One-way fingerprints by which a crystal is known again, whatever cell it is written in.

A fingerprint is a truncated hash of the reduced composition and of seven numbers that depend on distances
between atoms alone: order, origin, orientation and choice of the cell do not enter, so nothing is reduced
to a primitive cell and no symmetry is searched. The numbers are rounded to bins before they are hashed;
whoever asks probes the neighbouring bins too where a number lies near a border, so that what is stored
stays one hash per crystal.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from matmosaic.structures.arrays import StructureArrays, structure_arrays
from matmosaic.structures.matching import Composition, reduced_composition

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

#: Name of what is hashed here; fingerprints of another scheme cannot be compared with these.
FINGERPRINT_SCHEME = "distances/1"
#: Hexadecimal digits: by chance one of 10^5 stored hashes is met by one of 10^8 other crystals.
LENGTH = 12

# Atoms further apart than this (Å) count as if they were so far apart: vacuum of any width is the same.
RADIUS = 10.0
# Nearest atoms of each element that an atom sees: stackings of layers differ in far ones alone.
N_NEAREST = 128
# Width of a bin, and the error of a number that is looked past, in Å: rounding of coordinates to four
# decimals moves the numbers by less, strain of 1 % by more than both together.
# benchmarks/audit.py measures both.
BIN = 0.005
TOLERANCE = 0.001
# Two points closer than this (Å) are one: an atom is not its own neighbour.
_SELF_DISTANCE = 1e-8


def structure_fingerprint(structure: Structure | Molecule | StructureArrays) -> str:
    """Return a one-way hash that is, but for rounding, the same for every cell of a crystal.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule, or StructureArrays
        A structure that has passed `as_structures`, or its arrays.

    Returns
    -------
    str
        12 hexadecimal digits. Permuted, translated, rotated or mirrored, or written in another cell, the
        crystal has the same; with coordinates rounded otherwise, one of `probable_fingerprints`.

    Notes
    -----
    For each pair of elements, the distances in Å from an atom of one to its 128 nearest atoms of the other,
    in rising order and at most 10 Å, are averaged over the atoms of the first; their standard deviations
    stand beside the means. Seven fixed projections of all these, one of them a mean, are rounded to bins of
    0.005 Å; the k-th nearest atom counts as 1/sqrt(k). The idea is the pointwise distance distribution of
    Widdowson et al. [1]_, an isometry invariant that changes continuously with the positions of the atoms;
    means, the cap and the projections are ours. It is blind to what lies beyond 10 Å: a layer has the same
    fingerprint with any vacuum wider than that.

    References
    ----------
    .. [1] D. Widdowson, M. M. Mosca, A. Pulido, A. I. Cooper, V. Kurlin, MATCH Commun. Math. Comput. Chem.
       87, 529 (2022), doi:10.46793/match.87-3.529W.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> cell = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> other = Structure(Lattice.cubic(4.12), ["Cl", "Cs"], [[0.1, 0, 0], [0.6, 0.5, 0.5]]) * (2, 1, 1)
    >>> structure_fingerprint(other) == structure_fingerprint(cell)
    True
    """
    arrays = _arrays(structure)
    return _hash(reduced_composition(arrays), np.floor(_numbers(arrays) / BIN).astype(np.int64))


def probable_fingerprints(structure: Structure | Molecule | StructureArrays) -> list[str]:
    """Return all fingerprints that the same crystal may have, its coordinates being rounded otherwise.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule, or StructureArrays
        A structure that has passed `as_structures`, or its arrays.

    Returns
    -------
    list of str
        That of `structure_fingerprint` among them; about 10 on average, at most 128. A crystal whose seven
        numbers are all within 0.001 Å of these has one of them; with one that is 0.006 Å off it has none,
        but for chance.
    """
    arrays = _arrays(structure)
    composition, numbers = reduced_composition(arrays), _numbers(arrays)
    lowest, highest = (np.floor((numbers + shift) / BIN).astype(int) for shift in (-TOLERANCE, TOLERANCE))
    choices = (range(low, high + 1) for low, high in zip(lowest.tolist(), highest.tolist(), strict=True))
    return [_hash(composition, bins) for bins in product(*choices)]


def composition_fingerprint(structure: Structure | Molecule | StructureArrays) -> str:
    """Return a one-way hash of the reduced composition.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule, or StructureArrays
        A structure that has passed `as_structures`, or its arrays.

    Returns
    -------
    str
        12 hexadecimal digits, the same for all structures of that composition.
    """
    return _hash(reduced_composition(_arrays(structure)), ())


def _arrays(structure: Structure | Molecule | StructureArrays) -> StructureArrays:
    return structure if isinstance(structure, StructureArrays) else structure_arrays(structure)


def _hash(composition: Composition, bins: Iterable[int]) -> str:
    text = f"{FINGERPRINT_SCHEME} {composition} {','.join(map(str, bins))}"
    return blake2b(text.encode(), digest_size=LENGTH // 2).hexdigest()


def _numbers(arrays: StructureArrays) -> np.ndarray:
    """Return the numbers (Å) that are the same in every cell, shape (7,)."""
    _, element, counts = np.unique(arrays.numbers, return_inverse=True, return_counts=True)
    nearest = _nearest_distances(arrays, element, len(counts)).reshape(arrays.n_atoms, -1)
    members = (element == np.arange(len(counts))[:, None]) / counts[:, None]
    mean = members @ nearest
    spread = np.sqrt(members @ (nearest - mean[element]) ** 2)
    values = np.concatenate([mean.ravel(), spread.ravel()])
    return _projections(len(values)) @ values


def _nearest_distances(arrays: StructureArrays, element: np.ndarray, n_elements: int) -> np.ndarray:
    """Return the distances (Å) of each atom to its nearest atoms of each element, in rising order.

    Of shape (n_atoms, n_elements, N_NEAREST), RADIUS where there are no more within it.
    """
    center, neighbor, distance = _pairs(arrays)
    group = center * n_elements + element[neighbor]
    order = np.lexsort((distance, group))
    group, distance = group[order], distance[order]
    counts = np.bincount(group, minlength=arrays.n_atoms * n_elements)
    rank = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
    kept = rank < N_NEAREST
    nearest = np.full((len(counts), N_NEAREST), RADIUS)
    nearest[group[kept], rank[kept]] = distance[kept]
    return nearest.reshape(arrays.n_atoms, n_elements, N_NEAREST)


def _pairs(arrays: StructureArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of atoms within RADIUS, as numbers of both atoms and distances in Å."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions, lattice = np.ascontiguousarray(arrays.positions), np.eye(3)
    if arrays.pbc.any():  # atoms many cells away would make the search slow
        lattice = arrays.lattice
        fractional = np.linalg.solve(lattice.T, positions.T).T
        positions = positions - np.where(arrays.pbc, np.floor(fractional), 0.0) @ lattice
    center, neighbor, _, distance = find_points_in_spheres(
        positions, positions, r=RADIUS, pbc=arrays.pbc.astype(np.int64), lattice=lattice, tol=_SELF_DISTANCE
    )
    other = (center != neighbor) | (distance > _SELF_DISTANCE)
    return center[other], neighbor[other], distance[other]


@cache
def _projections(n_values: int) -> np.ndarray:
    """Return the directions in which distances count: that of a mean, and fixed ones without regularity.

    Those have length 1 and mixed signs, so that changes of a few distances are seen and errors of rounding do
    not add up. In all of them, the k-th nearest atom counts as 1/sqrt(k). Of shape (7, n_values).
    """
    place = np.arange(n_values)
    share = 1 / np.sqrt(1 + place % N_NEAREST)
    golden = (np.sqrt(5) - 1) / 2
    roots = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])
    phases = np.stack(
        [(place + 1) ** 2 * (1 + row) * golden / 2 + (place + 1) * root for row, root in enumerate(roots)]
    )
    mixed = share * np.cos(2 * np.pi * np.mod(phases, 1))
    return np.stack([share / share.sum(), *mixed * np.sqrt(2 / (share @ share))])
