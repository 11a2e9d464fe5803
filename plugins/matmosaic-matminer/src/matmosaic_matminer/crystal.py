"""What several descriptors ask of one structure, each computed once.

Atoms that a symmetry of the crystal exchanges have equal surroundings. Descriptors of sites are
therefore computed for one site of each such set, and statistics over all sites are weighted by the sizes of
the sets: the same numbers for a fraction of the work.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from matmosaic_matminer.voronoi import Cell, find_cells

# In Å. Tight, so that sites that merely resemble each other are not taken for equal.
ORBIT_TOLERANCE = 1e-4
# In Å. pymatgen's own for space groups, and so matminer's.
SPACE_GROUP_TOLERANCE = 0.01
# In Å and degrees.
ANGLE_TOLERANCE = 5.0
# In Å.
SAME_PLACE = 1e-8
SAME_DISTANCE = 1e-6
NEIGHBOUR_RADIUS = 10.0
# Few neighbours bound most cells, and their convex hull is found sooner than that of many.
CELL_RADII = (7.0, 10.0, 15.0, 25.0, 40.0, 60.0)


class Neighbours(NamedTuple):
    """The atoms around one site, nearest first."""

    sites: np.ndarray
    """Rows of the atoms in the structure, shape (n_neighbours,)."""
    vectors: np.ndarray
    """From the site to the atoms in Å, shape (n_neighbours, 3)."""
    distances: np.ndarray
    """In Å, shape (n_neighbours,)."""

    def within(self, radius: float) -> Neighbours:
        """Return those up to a radius in Å; rounding does not decide about those at that very distance."""
        count = int(np.searchsorted(self.distances, radius + SAME_DISTANCE))
        return Neighbours(*(column[:count] for column in self))


class Crystal:
    """A structure or molecule, and what is known of it so far.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule
        Ordered. It is not changed.
    compressed : bool, default=True
        Whether one site stands for all that are equivalent to it.
    """

    def __init__(self, structure: Any, *, compressed: bool = True) -> None:
        self.structure = structure
        self.compressed = compressed
        self.periodic = hasattr(structure, "lattice")

    def __str__(self) -> str:
        return f"{self.structure.composition.reduced_formula} of {len(self.structure)} atoms"

    # --- composition ---------------------------------------------------------------------------------

    @cached_property
    def composition(self) -> Any:
        """Of elements alone, reduced, so that it is the same for any cell."""
        return self.structure.composition.element_composition.reduced_composition

    @cached_property
    def elements(self) -> list[str]:
        """Symbols of the elements, shape (n_elements,)."""
        return [element.symbol for element in self.composition.elements]

    @cached_property
    def fractions(self) -> np.ndarray:
        """Atomic fractions of the elements, dimensionless, shape (n_elements,)."""
        amounts = np.array([*self.composition.values()], dtype=float)
        return amounts / amounts.sum()

    # --- symmetry ------------------------------------------------------------------------------------

    @cached_property
    def space_group(self) -> Any:
        """Dataset of spglib for the space group."""
        return self._symmetry(SPACE_GROUP_TOLERANCE, ANGLE_TOLERANCE)

    @cached_property
    def representatives(self) -> np.ndarray:
        """Rows of sites, one for each set of equivalent ones, shape (n_orbits,)."""
        return self._orbits[0]

    @cached_property
    def multiplicities(self) -> np.ndarray:
        """How many sites each representative stands for, shape (n_orbits,)."""
        return self._orbits[1]

    @cached_property
    def _orbits(self) -> tuple[np.ndarray, np.ndarray]:
        orbits = np.arange(len(self.structure))
        if self.compressed and self._may_repeat() and self._exact_symmetry is not None:
            orbits = self._exact_symmetry.crystallographic_orbits
        _, rows, counts = np.unique(orbits, return_index=True, return_counts=True)
        return rows, counts

    def _may_repeat(self) -> bool:
        """Tell whether two sites may be equivalent, by what is known of a coarser symmetry."""
        if len(self.structure) == len(self.elements):
            return False
        with suppress(ValueError):
            return len(np.unique(self.space_group.crystallographic_orbits)) < len(self.structure)
        return True

    @cached_property
    def _exact_symmetry(self) -> Any:
        with suppress(ValueError):
            return self._symmetry(ORBIT_TOLERANCE)
        return None

    def _symmetry(self, tolerance: float, angle_tolerance: float = -1.0) -> Any:
        import spglib

        numbers = [specie.Z for specie in self.species]
        cell: Any = self.structure.lattice.matrix, self.structure.frac_coords, numbers
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=tolerance, angle_tolerance=angle_tolerance)
        except Exception as error:  # of newer versions of spglib; older ones return None
            raise ValueError(f"spglib finds no symmetry: {error}") from error
        if found is None:
            raise ValueError("spglib finds no symmetry")
        return found

    @cached_property
    def primitive(self) -> Crystal:
        """A primitive cell of the crystal, each of its sites by itself."""
        from pymatgen.core import Structure

        known = self._exact_symmetry
        rows = np.arange(len(self.structure))
        if known is not None:
            rows = np.unique(known.mapping_to_primitive, return_index=True)[1]
        if len(rows) == len(self.structure) == len(self.representatives):
            return self
        if len(rows) == len(self.structure):
            return Crystal(self.structure, compressed=False)
        sites = self.structure.cart_coords[rows]
        species = [self.species[row] for row in rows]
        primitive = Structure(known.primitive_lattice, species, sites, coords_are_cartesian=True)
        return Crystal(primitive, compressed=False)

    # --- surroundings --------------------------------------------------------------------------------

    @cached_property
    def species(self) -> list[Any]:
        """Elements of the sites, without oxidation states."""
        return [getattr(site.specie, "element", site.specie) for site in self.structure]

    @cached_property
    def symbols(self) -> np.ndarray:
        """Symbols of the elements of the sites, shape (n_sites,)."""
        return np.array([specie.symbol for specie in self.species])

    @cached_property
    def neighbours(self) -> list[Neighbours]:
        """The atoms within 10 Å of each representative."""
        return self.neighbours_within(NEIGHBOUR_RADIUS)

    def neighbours_within(self, radius: float) -> list[Neighbours]:
        """Return the atoms within a radius in Å of each representative."""
        if radius < NEIGHBOUR_RADIUS:
            return [one.within(radius) for one in self.neighbours]
        sites = [self.structure[row] for row in self.representatives]
        centres, points, images, distances = self.structure.get_neighbor_list(
            radius + SAME_DISTANCE, sites=sites
        )
        coordinates = self.structure.frac_coords
        rows = self.representatives[centres]
        vectors = (coordinates[points] + images - coordinates[rows]) @ self.structure.lattice.matrix
        order = np.lexsort((distances, centres))
        order = order[distances[order] > SAME_PLACE]  # a site finds itself
        starts = np.searchsorted(centres[order], np.arange(1, len(sites)))
        return [Neighbours(points[part], vectors[part], distances[part]) for part in np.split(order, starts)]

    @property
    def cells(self) -> list[Cell]:
        """The Voronoi cells of the representatives."""
        if self._cells is None:
            raise ValueError(f"a Voronoi cell reaches farther than {CELL_RADII[-1] / 2} Å")
        return self._cells

    @cached_property
    def _cells(self) -> list[Cell] | None:
        found: list[Cell | None] = [None for _ in self.representatives]
        for radius in CELL_RADII:
            missing = [site for site, cell in enumerate(found) if cell is None]
            around = self.neighbours_within(radius)
            for site, cell in zip(
                missing, find_cells([around[site] for site in missing], radius), strict=True
            ):
                found[site] = cell
            known = [cell for cell in found if cell is not None]
            if len(known) == len(found):
                return known
        return None
