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

    salt = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
    perovskite = [*salt, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    rutile = [[0.0, 0.0, 0.0], [0.305, 0.305, 0]]
    packed = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    return [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], salt),
        Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], perovskite),
        Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], rutile),
        Structure(Lattice.hexagonal(3.21, 5.21), ["Mg", "Mg"], packed),
    ]


def displaced(crystal: Structure, rng: np.random.Generator) -> Structure:
    """Return a copy whose atoms are moved at random: no symmetry and no equal distances are left."""
    moved = crystal.copy()
    for atom in range(len(moved)):
        moved.translate_sites([atom], rng.normal(0, DISPLACEMENT, 3), frac_coords=False)
    return moved
