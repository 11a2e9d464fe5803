"""Layers: what a crystal is like between its widest gaps.

Vacuum in a cell, as calculations of two-dimensional materials have it, makes densities and volumes
meaningless. These descriptors look for the widest gap between planes of atoms along an axis of the primitive
cell, and describe the slab that is left. None of them is matminer's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit

# Atoms so near to the highest or lowest are at the surface, in Å.
SURFACE_DEPTH = 0.8
# Heights that differ by less are those of one plane, in Å.
PLANE_STEP = 0.1
GRAMS = 1.66054  # u/Å^3 in g/cm^3
PROPERTIES = {
    "Electronegativity": "",
    "CovalentRadius": "pm",
    "AtomicWeight": "u",
    "NValence": "",
    "NUnfilled": "",
    "Row": "",
    "Column": "",
    "MendeleevNumber": "",
}
SHAPE = (
    ("widest gap", "Å"),
    ("second widest gap", "Å"),
    ("third widest gap", "Å"),
    ("thickness", "Å"),
    ("thickness per atom", "Å"),
    ("area", "Å^2"),
    ("area per atom", "Å^2"),
    ("atoms per area", "1/Å^2"),
    ("surface atoms per area", "1/Å^2"),
    ("mass per area", "u/Å^2"),
    ("volume per atom", "Å^3"),
    ("density", "g/cm^3"),
    ("packing fraction", ""),
    ("planes", ""),
    ("spread of heights", "Å"),
    ("smaller edge", "Å"),
    ("larger edge", "Å"),
)


class Slab(NamedTuple):
    """The part of a primitive cell between its widest gap and the next image of that."""

    gaps: np.ndarray
    """The widest along each axis of the cell, in Å, widest first."""
    heights: np.ndarray
    """Of the atoms, the lowest at 0, in Å, shape (n_atoms,)."""
    area: float
    """Of the cell across the gap, in Å^2."""
    edges: np.ndarray
    """Lengths of the two other axes in Å, ascending."""


def find_slab(structure: Any) -> Slab:
    """Return the slab of a primitive cell.

    Parameters
    ----------
    structure : pymatgen Structure
        Whose axes are looked along.

    Returns
    -------
    Slab
    """
    lattice = structure.lattice
    spacings = 1 / np.array(lattice.reciprocal_lattice_crystallographic.abc)
    places = np.sort(np.mod(structure.frac_coords, 1), axis=0)
    steps = np.diff(places, axis=0, append=places[:1] + 1)
    gaps = steps.max(axis=0) * spacings
    axis = int(gaps.argmax())
    # Above the widest gap lies the lowest atom.
    lowest = places[(steps[:, axis].argmax() + 1) % len(places), axis]
    heights = np.mod(structure.frac_coords[:, axis] - lowest + 1e-9, 1) * spacings[axis]
    edges = np.sort(np.delete(lattice.abc, axis))
    return Slab(np.sort(gaps)[::-1], heights, lattice.volume / spacings[axis], edges)


def _surfaces(slab: Slab) -> tuple[np.ndarray, np.ndarray]:
    """Return which atoms are at the top, and which at the bottom."""
    return slab.heights > slab.heights.max() - SURFACE_DEPTH, slab.heights < SURFACE_DEPTH


def _shape(crystal: Crystal) -> list[float]:
    primitive = crystal.primitive
    slab, n_atoms = find_slab(primitive.structure), len(primitive.symbols)
    radii, masses = elements.element_rows(primitive.symbols, ("CovalentRadius", "AtomicWeight")).T
    radii = radii / 100  # Å
    thickness = slab.heights.max()
    volume = slab.area * (thickness + 2 * radii.mean())
    top, bottom = _surfaces(slab)
    return [
        *slab.gaps,
        thickness,
        thickness / n_atoms,
        slab.area,
        slab.area / n_atoms,
        n_atoms / slab.area,
        (top.sum() + bottom.sum()) / 2 / slab.area,
        masses.sum() / slab.area,
        volume / n_atoms,
        masses.sum() / volume * GRAMS,
        (4 / 3 * np.pi * radii**3).sum() / volume,
        len(np.unique(np.round(slab.heights / PLANE_STEP))),
        slab.heights.std(),
        *slab.edges,
    ]


def _surface_elements(crystal: Crystal) -> np.ndarray:
    primitive = crystal.primitive
    values = elements.element_rows(primitive.symbols, tuple(PROPERTIES))
    top, bottom = (values[atoms].mean(axis=0) for atoms in _surfaces(find_slab(primitive.structure)))
    outside = (top + bottom) / 2
    return np.stack([outside, np.abs(top - bottom), values.mean(axis=0) - outside], axis=1).ravel()


def _surface_columns() -> list[str]:
    kinds = ("at the surfaces", "difference of the surfaces", "of all atoms less at the surfaces")
    return [with_unit(f"Layers {name} {kind}", unit) for name, unit in PROPERTIES.items() for kind in kinds]


LAYER_SHAPE = Descriptor(
    "Layers", lambda: [with_unit(f"Layers {label}", unit) for label, unit in SHAPE], _shape
)
SURFACE_ELEMENTS = Descriptor("Layers", _surface_columns, _surface_elements)
ALL = (LAYER_SHAPE, SURFACE_ELEMENTS)
