"""Exact compression: compute each kind of atom and bond of a crystal once.

Crystals repeat themselves. Two atoms with the same surroundings, at every depth, get the same
features from any message-passing network, so one of them with its multiplicity is enough:

1. Bond lengths of a structure that agree within the tolerance are made equal.
2. Atoms are coloured by element and refined (Weisfeiler-Lehman): an atom's next colour is its
   colour and the multiset of (colour of neighbour, bond length, bond weight) around it, until no
   class splits any more.
3. One atom of each class stays, with ``atom_weight`` members; its bonds to one class at one
   length merge into one bond with the sum of their weights.

Sums, means and batch statistics that are weighted so are those of the whole crystal.
Colours are 64-bit hashes: in a set of 10^5 atoms per structure the chance that two different
surroundings collide is below 10^-9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matmosaic.graphs.neighbors import Bonds

# The lengths of a large irregular cell lie so close that each is within the tolerance of the next. A
# group that such a chain has made wider than this many tolerances is cut at ever smaller gaps.
WIDEST_GROUP = 5
FINER_GAPS = (1e-1, 1e-2, 1e-4)


@dataclass(frozen=True, slots=True)
class Classes:
    """One representative of each class of atoms and bonds.

    Attributes
    ----------
    atom : ndarray of int64, shape (n_kept_atoms,)
        Representatives, as atom numbers before compression, ascending.
    atom_weight : ndarray of float64, shape (n_kept_atoms,)
        Members of each atom class.
    center, neighbor : ndarray of int64, shape (n_kept_bonds,)
        Bonds between representatives, as positions in ``atom``; sorted by centre.
    distance, weight : ndarray of float64, shape (n_kept_bonds,)
        Length in Å, and the summed weight of the merged bonds.
    """

    atom: np.ndarray
    atom_weight: np.ndarray
    center: np.ndarray
    neighbor: np.ndarray
    distance: np.ndarray
    weight: np.ndarray


def equalise_distances(
    structure: np.ndarray, distance: np.ndarray, weight: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Group the bond lengths of each structure and replace each by its group's mean.

    Parameters
    ----------
    structure : ndarray of int64, shape (n_bonds,)
        The structure that each bond belongs to.
    distance, weight : ndarray of float64, shape (n_bonds,)
        Lengths in Å, and weights of the mean.
    tolerance : float
        Neighbouring lengths closer than this (Å) belong to one group; a group is at most
        ``WIDEST_GROUP`` times as wide.

    Returns
    -------
    group : ndarray of int64, shape (n_bonds,)
        Group numbers, no two structures share one.
    distance : ndarray of float64, shape (n_bonds,)
        The group's mean length in Å.
    """
    order = np.lexsort((distance, structure))
    ascending = distance[order]
    gap = np.diff(ascending, prepend=-np.inf)
    new = (gap > tolerance) | (np.diff(structure[order], prepend=-1) != 0)
    for finer in FINER_GAPS:
        new |= _is_wide(ascending, new, WIDEST_GROUP * tolerance) & (gap > finer * tolerance)
    group = np.empty(len(distance), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    mean = np.bincount(group, weights=distance * weight) / np.bincount(group, weights=weight)
    return group, mean[group]


def _is_wide(ascending: np.ndarray, new: np.ndarray, widest: float) -> np.ndarray:
    """Say of each length whether its group, which starts where ``new`` is True, is too wide."""
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(ascending))[: len(first)] - 1  # none where there are no lengths
    return np.repeat(ascending[last] - ascending[first] > widest, last - first + 1)


def refine(structure: np.ndarray, numbers: np.ndarray, bonds: Bonds, group: np.ndarray) -> np.ndarray:
    """Return the class of each atom by colour refinement.

    Parameters
    ----------
    structure : ndarray of int64, shape (n_atoms,)
        The structure that each atom belongs to, ascending.
    numbers : ndarray of int64, shape (n_atoms,)
        Atomic numbers.
    bonds : Bonds
        Sorted by centre; every atom has at least one.
    group : ndarray of int64, shape (n_bonds,)
        Groups of equal lengths.

    Returns
    -------
    ndarray of int64, shape (n_atoms,)
        Class numbers; no two structures share one.
    """
    # Weights are ratios of small integers: six decimals tell them apart and forgive rounding.
    shape = mix(group.astype(np.uint64), np.rint(bonds.weight * 1e6).astype(np.uint64))
    first_bond = np.flatnonzero(np.diff(bonds.center, prepend=-1))
    color = mix(structure.astype(np.uint64), numbers.astype(np.uint64))
    classes = enumerate_colors(color)
    while True:
        around = np.add.reduceat(mix(shape, color[bonds.neighbor]), first_bond)
        color = mix(color, around)
        refined = enumerate_colors(color)
        if refined.max() == classes.max():
            return refined
        classes = refined


def compress(numbers: np.ndarray, bonds: Bonds, group: np.ndarray, classes: np.ndarray) -> Classes:
    """Keep one atom of each class and merge its equal bonds.

    Parameters
    ----------
    numbers : ndarray of int64, shape (n_atoms,)
        Atomic numbers.
    bonds : Bonds
        Bonds with equalised lengths, sorted by centre.
    group, classes : ndarray of int64
        Groups of equal lengths (n_bonds,) and classes of atoms (n_atoms,).

    Returns
    -------
    Classes
        Representatives with multiplicities.
    """
    _, atom, members = np.unique(classes, return_index=True, return_counts=True)
    order = np.argsort(atom)
    atom, members = atom[order], members[order]
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))

    representative = np.zeros(len(numbers), dtype=bool)
    representative[atom] = True
    kept = np.flatnonzero(representative[bonds.center])
    center = position[classes[bonds.center[kept]]]
    neighbor = position[classes[bonds.neighbor[kept]]]
    order = np.lexsort((neighbor, group[kept], center))
    center, neighbor, kept = center[order], neighbor[order], kept[order]
    new = (np.diff(center, prepend=-1) != 0) | (np.diff(neighbor, prepend=-1) != 0)
    new |= np.diff(group[kept], prepend=-1) != 0
    first = np.flatnonzero(new)
    return Classes(
        atom=atom,
        atom_weight=members.astype(float),
        center=center[first],
        neighbor=neighbor[first],
        distance=bonds.distance[kept][first],
        weight=np.add.reduceat(bonds.weight[kept], first),
    )


def enumerate_colors(color: np.ndarray) -> np.ndarray:
    """Return the number of each colour among the distinct ones, from 0."""
    return np.unique(color, return_inverse=True)[1]


def mix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hash pairs of 64-bit integers (two rounds of the SplitMix64 finaliser)."""
    with np.errstate(over="ignore"):
        return scramble(scramble(left + np.uint64(0x9E3779B97F4A7C15)) + right)


def scramble(value: np.ndarray) -> np.ndarray:
    """Hash 64-bit integers.

    The finaliser of SplitMix64 (Steele, Lea, Flood, 2014, DOI 10.1145/2714064.2660195).
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
