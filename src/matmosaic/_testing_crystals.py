"""Crystals that the contract checks use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Standard deviation in Å of each coordinate.
DISPLACEMENT = 0.1


def common_crystals() -> list[Structure]:
    """Return four crystals of two and more elements, with 2 to 8 atoms."""
    from pymatgen.core import Lattice, Structure

    # Sites are spelt out: making a space group's takes longer than all checks.
    faces = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    salt = [*faces, *([x + 0.5, y, z] for x, y, z in faces)]
    perovskite = [faces[0], [0.5, 0.5, 0.5], *faces[1:]]
    titanium, oxygen = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], [[0.305, 0.305, 0.0], [0.805, 0.195, 0.5]]
    rutile = [*titanium, *oxygen, *([1 - x, 1 - y, z] for x, y, z in oxygen)]
    packed = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    return [
        Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, salt),
        Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], perovskite),
        Structure(Lattice.tetragonal(4.59, 2.96), ["Ti"] * 2 + ["O"] * 4, rutile),
        Structure(Lattice.hexagonal(3.21, 5.21), ["Mg", "Mg"], packed),
    ]


def displaced(crystal: Structure, rng: np.random.Generator) -> Structure:
    """Return a copy whose atoms are moved at random: no symmetry and no equal distances are left."""
    moved = crystal.copy()
    for atom in range(len(moved)):
        moved.translate_sites([atom], rng.normal(0, DISPLACEMENT, 3), frac_coords=False)
    return moved
