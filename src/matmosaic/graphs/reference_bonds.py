"""The bonds between which the reference ALIGNN code measures angles.

A shell is cut, or kept, by an exact comparison of float64 distances, and in most crystals rounding decides.
So every distance here is the sum that the reference takes, last bit included: positions come from the
lattice rounded to 5 decimals, the shifts between images from the lattice as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.graphs.mutual_bonds import SHORTEST_BOND, MutualBonds
from matmosaic.graphs.near_cell import fractional_coordinates
from matmosaic.graphs.settings import GraphSettings
from matmosaic.structures import StructureArrays

# Decimals (of Å) to which the reference rounds the lattice that positions and bond vectors come from.
LATTICE_DECIMALS = 5
# Candidates are searched this much (Å) beyond the cutoff, so that rounding cannot lose one.
SEARCH_MARGIN = 1e-6


def find_reference_bonds(structures: Sequence[StructureArrays], settings: GraphSettings) -> MutualBonds:
    """Return the bonds of the published ALIGNN graphs.

    Each atom chooses its ``max_neighbors`` nearest neighbours and all that are exactly as far as the last
    of them. A bond that both of its ends chose occurs once, and every bond then in both directions. Bonds
    of an atom to its own images *n* and *-n* are not recognised as one, so each of them occurs twice. If
    any atom of a structure has fewer neighbours, the cutoff of this structure grows: to the longest cell
    edge, and then to twice as much again and again.

    Parameters
    ----------
    structures : sequence of StructureArrays
        Periodic along all three lattice vectors. The reference starts from fractional coordinates; where a
        structure lacks them they are computed from its positions, and rounding may cut a shell elsewhere.
    settings : GraphSettings
        Cutoff in Å and number of neighbours; the tolerance has no meaning here.

    Returns
    -------
    MutualBonds
        Sorted by centre, then by length.

    Raises
    ------
    InvalidStructuresError
        If a structure is a molecule or does not repeat along all three lattice vectors.

    References
    ----------
    Choudhary, DeCost, npj Comput. Mater. 7, 185 (2021), doi:10.1038/s41524-021-00650-1
    """
    for structure in structures:
        check_periodic(structure, "A structure")
    counts = np.array([structure.n_atoms for structure in structures], dtype=np.int64)
    offsets = np.cumsum(counts) - counts
    found = [_bonds_of(structure, settings) for structure in structures]
    ends = [np.stack([one.center, one.neighbor]) + offset for one, offset in zip(found, offsets, strict=True)]
    isolated = [one.isolated for one in found]
    vector = np.concatenate([one.vector for one in found])
    return _sorted(np.concatenate(ends, axis=1), vector, np.concatenate(isolated))


def check_periodic(structure: StructureArrays, named: str) -> None:
    """Refuse a structure that the published graphs do not exist for.

    Parameters
    ----------
    structure : StructureArrays
        One structure.
    named : str
        What to call it in the message, such as ``"X[17] (NaCl)"``.

    Raises
    ------
    InvalidStructuresError
        If it is a molecule or does not repeat along all three lattice vectors.
    """
    if not structure.pbc.all():
        raise InvalidStructuresError(
            f"{named} does not repeat along all three lattice vectors: pbc={structure.pbc.tolist()}. The "
            "graphs of published ALIGNN weights exist for crystals alone; put molecules and slabs into a "
            "periodic cell with vacuum, or use the graph setting ties='whole' and a module trained with it."
        )


@dataclass(frozen=True, slots=True)
class _DirectedBonds:
    """Bonds of one structure; row ``2 i + 1`` is row ``2 i`` in the opposite direction."""

    center: np.ndarray
    neighbor: np.ndarray
    vector: np.ndarray
    isolated: np.ndarray


def _bonds_of(structure: StructureArrays, settings: GraphSettings) -> _DirectedBonds:
    fractional = fractional_coordinates(structure)
    rounded = structure.lattice.round(LATTICE_DECIMALS)
    cutoff = settings.cutoff
    pairs = _search(structure.lattice, rounded, fractional, cutoff)
    isolated = np.bincount(pairs.center, minlength=structure.n_atoms) == 0
    while np.bincount(pairs.center, minlength=structure.n_atoms).min() < settings.n_places:
        longest = np.linalg.norm(rounded, axis=1).max()
        cutoff = longest if cutoff < longest else 2 * cutoff
        pairs = _search(structure.lattice, rounded, fractional, cutoff)
    source, target, image = _canonical(pairs.select(_nearest(pairs, settings.n_places)))
    vector = (fractional[target] + image - fractional[source]) @ rounded
    return _DirectedBonds(
        center=np.stack([target, source], axis=1).ravel(),
        neighbor=np.stack([source, target], axis=1).ravel(),
        vector=np.stack([vector, -vector], axis=1).reshape(-1, 3),
        isolated=isolated,
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Each atom and what is near it: atom numbers, image of the neighbour (n, 3), distance in Å."""

    center: np.ndarray
    neighbor: np.ndarray
    image: np.ndarray
    distance: np.ndarray

    def select(self, rows: np.ndarray) -> _Pairs:
        return _Pairs(self.center[rows], self.neighbor[rows], self.image[rows], self.distance[rows])


def _search(lattice: np.ndarray, rounded: np.ndarray, fractional: np.ndarray, cutoff: float) -> _Pairs:
    """Return all pairs within the cutoff among the images that the reference looks at."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions = fractional @ rounded
    center, neighbor, image, _ = find_points_in_spheres(
        positions, positions, r=cutoff + SEARCH_MARGIN, pbc=np.ones(3, dtype=np.int64), lattice=lattice
    )
    image = np.rint(image).astype(np.int64)
    shifted = image @ lattice + positions[neighbor]
    distance = np.sqrt(((shifted - positions[center]) ** 2).sum(axis=1))
    first, last = _images(rounded, fractional, cutoff)
    looked_at = ((image >= first) & (image <= last)).all(axis=1)
    near = (distance <= cutoff) & (distance > SHORTEST_BOND)
    return _Pairs(center, neighbor, image, distance).select(looked_at & near)


def _images(rounded: np.ndarray, fractional: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last image along each axis, (3,) each.

    They reach ``SHORTEST_BOND`` beyond the cutoff, as those of the reference do.
    Where all atoms lie beyond the first cell these images do not reach all neighbours within the cutoff.
    """
    planes_per_length = np.linalg.norm(np.linalg.inv(rounded), axis=0)
    reach = np.ceil((cutoff + SHORTEST_BOND) * planes_per_length)
    return np.floor(fractional.min(axis=0)) - reach, np.ceil(fractional.max(axis=0)) + reach - 1


def _nearest(pairs: _Pairs, max_neighbors: int) -> np.ndarray:
    """Return which pairs are no longer than the last that their centre has a place for."""
    order = np.lexsort((pairs.distance, pairs.center))
    counts = np.bincount(pairs.center)
    last = pairs.distance[order[np.cumsum(counts) - counts + max_neighbors - 1]]
    return pairs.distance <= last[pairs.center]


def _canonical(pairs: _Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return source, target and image of the target, each bond once, from the lower atom to the higher."""
    swap = pairs.neighbor < pairs.center
    image = np.where(swap[:, None], -pairs.image, pairs.image)
    ends = np.sort(np.stack([pairs.center, pairs.neighbor], axis=1), axis=1)
    bonds = np.unique(np.concatenate([ends, image], axis=1), axis=0)
    return bonds[:, 0], bonds[:, 1], bonds[:, 2:]


def _sorted(ends: np.ndarray, vector: np.ndarray, isolated: np.ndarray) -> MutualBonds:
    """Sort directed bonds, of which each odd row is the reverse of the one before it."""
    order = np.lexsort((np.linalg.norm(vector, axis=1), ends[0]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return MutualBonds(
        center=ends[0][order],
        neighbor=ends[1][order],
        vector=vector[order],
        reverse=place[order ^ 1],
        isolated=isolated,
    )
