"""Crystals that the contract checks use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Standard deviation in Å of each coordinate.
DISPLACEMENT = 0.1
SHIFT = (0.13, 0.27, 0.41)  # of all atoms, in lattice vectors
# In Å. pymatgen's own, 0.25 Å, would take displaced atoms for equal.
SAME_PLACE = 1e-3


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


def tied_alloy() -> Structure:
    """Return an ordered alloy whose atoms, of equal radii, have neighbours of both elements equally near."""
    from pymatgen.core import Lattice, Structure

    places = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    return Structure(Lattice.cubic(4.02), ["Pt", "Pt", "Au", "Au"], places)


# --- the same crystal, written otherwise -----------------------------------------------------------------


def reordered(crystal: Structure) -> Structure:
    """Return a copy with its atoms in another order."""
    order = np.random.default_rng(0).permutation(len(crystal))
    return type(crystal).from_sites([crystal[int(atom)] for atom in order])


def translated(crystal: Structure) -> Structure:
    """Return a copy with another origin."""
    return crystal.copy().translate_sites(range(len(crystal)), SHIFT)


def rotated(crystal: Structure) -> Structure:
    """Return a copy turned in space, without rounding: ties between lengths remain."""
    # A cyclic exchange of x, y and z is a rotation.
    return type(crystal)(np.roll(crystal.lattice.matrix, 1, axis=1), crystal.species, crystal.frac_coords)


def doubled(crystal: Structure) -> Structure:
    """Return a cell twice as large."""
    return crystal.make_supercell([1, 1, 2], in_place=False)


def sheared(crystal: Structure) -> Structure:
    """Return a cell as large, with other and longer edges."""
    return crystal.make_supercell([[1, 0, 0], [1, 1, 0], [2, 0, 1]], in_place=False)


def primitive(crystal: Structure) -> Structure:
    """Return a smallest cell."""
    return crystal.get_primitive_structure(tolerance=SAME_PLACE)
