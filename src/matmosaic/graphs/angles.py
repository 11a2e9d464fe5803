"""Angles between bonds, and exact compression of atoms, bonds and angles together.

An angle joins a bond *e* that arrives at an atom to a bond *f* that leaves it; features go from *e* to
*f*. Bonds that a network with angles cannot tell apart have the same length, join atoms that it cannot tell
apart, and see the same bonds at the same angles: colours of atoms and bonds are refined in turn, as
those of atoms alone are in :mod:`~matmosaic.graphs.compression`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matmosaic.graphs.compression import enumerate_colors, mix, scramble
from matmosaic.graphs.mutual_bonds import MutualBonds

# Bits of a sort key that hold a cosine: a step of 1.2e-7 in the range from -1 to 1.
COSINE_BITS = 26


@dataclass(frozen=True)
class Angles:
    """All angles of mutual bonds, sorted by the bond that receives.

    Each bond *f* receives from all bonds that arrive at the atom it leaves, in their order.

    Attributes
    ----------
    bonds : MutualBonds
        What the angles are between.
    straight_on : bool, default=True
        Whether a bond to an atom's own image goes on in the next cell, as it does in a larger cell of the
        same crystal; the published ALIGNN takes it for the same bond, which makes no angle with itself.
    undirected : bool, default=False
        Whether both directions of a bond are one bond, which makes no angle with itself.
    short : ndarray of bool, shape (n_bonds,), optional
        The bonds that make angles, at each atom those before all others; all when None.
    """

    bonds: MutualBonds
    straight_on: bool = True
    undirected: bool = False
    short: np.ndarray | None = None

    @cached_property
    def n_received(self) -> np.ndarray:
        """Number of angles of each bond, int64 of shape (n_bonds,)."""
        if self.short is None:
            return np.bincount(self.bonds.center)[self.bonds.neighbor]
        arriving = np.bincount(self.bonds.center, weights=self.short).astype(np.int64)
        return np.where(self.short, arriving[self.bonds.neighbor], 0)

    @cached_property
    def start(self) -> np.ndarray:
        """First angle of each bond, int64 of shape (n_bonds,)."""
        return np.cumsum(self.n_received) - self.n_received

    @cached_property
    def first_sender(self) -> np.ndarray:
        """First bond that each bond receives from, int64 of shape (n_bonds,)."""
        arriving = np.bincount(self.bonds.center)
        return (np.cumsum(arriving) - arriving)[self.bonds.neighbor]

    @cached_property
    def receiver(self) -> np.ndarray:
        """Bond that receives, int64 of shape (n_angles,)."""
        return np.repeat(np.arange(len(self.n_received)), self.n_received)

    @cached_property
    def sender(self) -> np.ndarray:
        """Bond that sends, int64 of shape (n_angles,)."""
        return np.arange(len(self.receiver)) + np.repeat(self.first_sender - self.start, self.n_received)

    @cached_property
    def cosine(self) -> np.ndarray:
        """Cosines of the angles, float64 of shape (n_angles,); 1 where a bond turns back."""
        vector = self.bonds.vector
        unit = vector / np.sqrt(np.einsum("bx,bx->b", vector, vector))[:, None]
        cosine = -np.einsum("ax,ax->a", unit[self.sender], np.repeat(unit, self.n_received, axis=0))
        return np.clip(cosine, -1.0, 1.0)

    def left_out(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which of some angles do not count."""
        sender, receiver = self.sender[rows], self.receiver[rows]
        straight = (sender == receiver) & (not self.straight_on)
        return straight | ((sender == self.bonds.reverse[receiver]) & self.undirected)

    def numbers(self, sender: np.ndarray, receiver: np.ndarray) -> np.ndarray:
        """Return the row of the angle from each sender to each receiver."""
        return self.start[receiver] + sender - self.first_sender[receiver]


def group_cosines(angles: Angles, length: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Group angles between bonds of equal lengths and replace each cosine by its group's mean.

    Parameters
    ----------
    angles : Angles
        Of many structures.
    length : ndarray of int64, shape (n_bonds,)
        Groups of equal bond lengths; no two structures share one.
    tolerance : float
        Neighbouring cosines closer than this belong to one group.

    Returns
    -------
    group : ndarray of int64, shape (n_angles,)
        Group numbers.
    cosine : ndarray of float64, shape (n_groups,)
        The mean of each group.
    """
    reverse = angles.bonds.reverse
    opposite = np.repeat(reverse, angles.n_received)
    # The angle from f reversed to e reversed has the same cosine: one of both is enough.
    half = np.flatnonzero(angles.sender <= opposite)
    sender, opposite, cosine = angles.sender[half], opposite[half], angles.cosine[half]
    kinds = np.stack([length[sender], length[opposite]])
    n_kinds = int(length.max(initial=0)) + 1
    bits = min(COSINE_BITS, 62 - 2 * n_kinds.bit_length())
    steps = 2.0 ** (bits - 2)
    key = ((kinds.min(axis=0) * n_kinds + kinds.max(axis=0)) << bits) + ((cosine + 1.0) * steps).astype(
        np.int64
    )
    order = np.argsort(key)
    new = np.diff(key[order], prepend=-(1 << bits)) > tolerance * steps
    found = np.empty(len(half), dtype=np.int64)
    found[order] = np.cumsum(new) - 1
    group = np.empty(len(angles.receiver), dtype=np.int64)
    group[half] = found
    group[angles.numbers(opposite, reverse[sender])] = found
    return group, np.bincount(found, weights=cosine) / np.bincount(found)


def refine_with_angles(
    color: np.ndarray, length: np.ndarray, angles: Angles, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of atoms and bonds by colour refinement.

    Parameters
    ----------
    color : ndarray of uint64, shape (n_atoms,)
        First colours of the atoms; no two structures share one.
    length : ndarray of int64, shape (n_bonds,)
        Groups of equal bond lengths.
    angles : Angles
        Of the bonds.
    group : ndarray of int64, shape (n_angles,)
        Groups of equal angles.

    Returns
    -------
    atoms : ndarray of int64, shape (n_atoms,)
        Class numbers.
    bonds : ndarray of int64, shape (n_bonds,)
        Class numbers; the bonds of a class join atoms of the same two classes.
    """
    bonds = angles.bonds
    first = np.flatnonzero(np.diff(bonds.center, prepend=-1))
    bonded = bonds.center[first]
    shape = scramble(group.astype(np.uint64) + np.uint64(1))
    shape[angles.left_out()] = 0
    receivers = np.flatnonzero(angles.n_received)
    atoms, n_classes = enumerate_colors(color), 0
    bond = mix(length.astype(np.uint64), _ends(color, bonds))
    while True:
        # A sum of products of random numbers is a hash of the bonds seen at each angle.
        seen = np.zeros_like(bond)
        seen[receivers] = _sums(scramble(bond)[angles.sender] * shape, angles.start[receivers])
        bond = mix(mix(bond, seen), _ends(color, bonds))
        if angles.undirected:
            bond = mix(bond, bond[bonds.reverse])
        color = color.copy()
        color[bonded] = mix(color[bonded], _sums(scramble(bond), first))
        atoms, classes = enumerate_colors(color), enumerate_colors(bond)
        found = int(atoms.max(initial=0)) + int(classes.max(initial=0))
        if found == n_classes:
            return atoms, classes
        n_classes = found


def _sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the sums of consecutive runs of values, none of them empty."""
    return np.add.reduceat(values, first) if len(first) else values[:0]


def _ends(color: np.ndarray, bonds: MutualBonds) -> np.ndarray:
    return mix(color[bonds.neighbor], color[bonds.center])


@dataclass(frozen=True, slots=True)
class AngleClasses:
    """One representative of each class of atoms, bonds and angles.

    Attributes
    ----------
    atom : ndarray of int64, shape (n_kept_atoms,)
        Representatives, as atom numbers before compression, ascending.
    atom_weight : ndarray of float64, shape (n_kept_atoms,)
        Members of each class.
    center, neighbor : ndarray of int64, shape (n_kept_bonds,)
        Positions in ``atom``; sorted by centre.
    distance, weight : ndarray of float64, shape (n_kept_bonds,)
        Length in Å, and bonds of the class at one centre.
    reverse : ndarray of int64, shape (n_kept_bonds,)
        The class of the same bonds in the opposite direction; means something in undirected graphs alone.
    angle : ndarray of int64, shape (2, n_kept_angles)
        Sending and receiving bond, as positions among the kept bonds; sorted by the receiving one.
    cosine, angle_weight : ndarray of float64, shape (n_kept_angles,)
        Cosine, and angles of the class at one receiving bond.
    """

    atom: np.ndarray
    atom_weight: np.ndarray
    center: np.ndarray
    neighbor: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    reverse: np.ndarray
    angle: np.ndarray
    cosine: np.ndarray
    angle_weight: np.ndarray


def compress_with_angles(
    angles: Angles,
    atoms: np.ndarray,
    classes: np.ndarray,
    length: np.ndarray,
    distance: np.ndarray,
    group: np.ndarray,
    cosine: np.ndarray,
) -> AngleClasses:
    """Keep one atom, bond and angle of each class.

    Parameters
    ----------
    angles : Angles
        Of all bonds.
    atoms, classes : ndarray of int64
        Classes of atoms (n_atoms,) and bonds (n_bonds,), of :func:`refine_with_angles`.
    length : ndarray of int64, shape (n_bonds,)
        Groups of equal bond lengths.
    distance : ndarray of float64, shape (n_bonds,)
        Equalised lengths in Å.
    group : ndarray of int64, shape (n_angles,)
        Groups of equal angles.
    cosine : ndarray of float64, shape (n_groups,)
        Their cosines.

    Returns
    -------
    AngleClasses
        Representatives with multiplicities.
    """
    bonds = angles.bonds
    _, atom, members = np.unique(atoms, return_index=True, return_counts=True)
    place = np.empty(len(atom), dtype=np.int64)
    place[np.argsort(atom)] = np.arange(len(atom))
    _, bond, n_bonds = np.unique(classes, return_index=True, return_counts=True)
    center, neighbor = place[atoms[bonds.center[bond]]], place[atoms[bonds.neighbor[bond]]]
    order = np.lexsort((neighbor, length[bond], center))
    position = np.empty(len(bond), dtype=np.int64)
    position[order] = np.arange(len(bond))
    bond, center, neighbor = bond[order], center[order], neighbor[order]
    members = members[np.argsort(place)]
    kept, weight = _kept_angles(angles, bond, position[classes], group)
    return AngleClasses(
        atom=np.sort(atom),
        atom_weight=members.astype(float),
        center=center,
        neighbor=neighbor,
        distance=distance[bond],
        weight=n_bonds[order] / members[center],
        reverse=position[classes[bonds.reverse[bond]]],
        angle=np.stack([position[classes[angles.sender[kept]]], position[classes[angles.receiver[kept]]]]),
        cosine=cosine[group[kept]],
        angle_weight=weight,
    )


def _kept_angles(
    angles: Angles, bond: np.ndarray, position: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one angle of each class at the kept bonds, and how many there are of it."""
    counts = angles.n_received[bond]
    first = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(angles.start[bond] - first, counts)
    rows = rows[~angles.left_out(rows)]
    sender, receiver = position[angles.sender[rows]], position[angles.receiver[rows]]
    n_groups = int(group.max(initial=0)) + 1
    kinds = (receiver * len(bond) + sender) * n_groups + group[rows]
    _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
    return rows[first], counts.astype(float)
