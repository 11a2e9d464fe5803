"""Graphs with angles: from arrays of structures to compressed or uncompressed graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matmosaic.graphs.angles import (
    Angles,
    compress_with_angles,
    group_cosines,
    refine_with_angles,
)
from matmosaic.graphs.compression import equalise_distances, mix
from matmosaic.graphs.crystal_graph import CrystalGraph, split_graphs
from matmosaic.graphs.mutual_bonds import find_mutual_bonds
from matmosaic.graphs.reference_bonds import find_reference_bonds
from matmosaic.graphs.settings import GraphSettings
from matmosaic.structures import StructureArrays


def angle_graphs(
    arrays: Sequence[StructureArrays],
    structure: np.ndarray,
    numbers: np.ndarray,
    settings: GraphSettings,
    *,
    compressed: bool,
) -> list[CrystalGraph]:
    """Build the graphs of some structures, with their angles.

    Parameters
    ----------
    arrays : sequence of StructureArrays
        Positions and lattices in Å.
    structure, numbers : ndarray of int64, shape (n_atoms,)
        The structure that each atom belongs to, and its atomic number.
    settings : GraphSettings
        Cutoff, number of neighbours and ties.
    compressed : bool
        Keep one atom, bond and angle of each class; otherwise the vectors of all bonds.

    Returns
    -------
    list of CrystalGraph
        One per structure.
    """
    published = settings.ties == "reference"
    bonds = (find_reference_bonds if published else find_mutual_bonds)(arrays, settings)
    isolated = np.bincount(structure[bonds.isolated], minlength=len(arrays))
    exact = np.sqrt(np.einsum("bx,bx->b", bonds.vector, bonds.vector))
    length, distance = equalise_distances(
        structure[bonds.center], exact, np.ones(len(exact)), settings.tolerance
    )
    angles = Angles(
        bonds,
        straight_on=not published,
        undirected=settings.undirected,
        short=None if settings.angle_cutoff is None else distance < settings.angle_cutoff,
    )
    if not compressed:
        return _whole_graphs(structure, numbers, isolated, angles, distance)
    group, cosine = group_cosines(angles, length, settings.tolerance)
    color = mix(structure.astype(np.uint64), numbers.astype(np.uint64))
    atoms, classes = refine_with_angles(color, length, angles, group)
    kept = compress_with_angles(angles, atoms, classes, length, distance, group, cosine)
    return split_graphs(
        structure[kept.atom],
        isolated,
        {"numbers": numbers[kept.atom], "atom_weight": kept.atom_weight},
        {
            "edge_index": np.stack([kept.neighbor, kept.center]),
            "distance": kept.distance,
            "bond_weight": kept.weight,
            **({"reverse": kept.reverse} if settings.undirected else {}),
        },
        {"angle_index": kept.angle, "cosine": kept.cosine, "angle_weight": kept.angle_weight},
    )


def _whole_graphs(
    structure: np.ndarray, numbers: np.ndarray, isolated: np.ndarray, angles: Angles, distance: np.ndarray
) -> list[CrystalGraph]:
    bonds = angles.bonds
    links = {
        "edge_index": np.stack([bonds.neighbor, bonds.center]),
        "distance": distance,
        "bond_weight": np.ones(len(distance)),
        **({"reverse": bonds.reverse} if angles.undirected else {}),
    }
    atoms = {"numbers": numbers, "atom_weight": np.ones(len(numbers))}
    if angles.short is None:  # All angles are too many to keep; a batch derives them.
        return split_graphs(structure, isolated, atoms, {**links, "vector": bonds.vector})
    kept = ~angles.left_out()
    corners = {
        "angle_index": np.stack([angles.sender, angles.receiver])[:, kept],
        "cosine": angles.cosine[kept],
        "angle_weight": np.ones(kept.sum()),
    }
    return split_graphs(structure, isolated, atoms, links, corners)
