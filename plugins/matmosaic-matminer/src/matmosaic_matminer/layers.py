"""Layers: what a crystal is like between its widest gaps.

Vacuum in a cell, as calculations of two-dimensional materials have it, makes densities and volumes
meaningless. These descriptors look for the widest gap between planes of atoms, and describe the slab that is
left; where several gaps are equally wide, they are means over all of these. None of them is matminer's.
"""

from __future__ import annotations

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit
from matmosaic_matminer.slabs import Slab, find_slabs

# Atoms so near to the highest or lowest are at the surface, in Å.
SURFACE_DEPTH = 0.8
# Wider steps between heights part planes, in Å.
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


def _surfaces(slab: Slab) -> tuple[np.ndarray, np.ndarray]:
    """Return which atoms are at the top, and which at the bottom."""
    return slab.heights > slab.heights.max() - SURFACE_DEPTH, slab.heights < SURFACE_DEPTH


def _shape(crystal: Crystal) -> np.ndarray:
    primitive = crystal.primitive
    radii, masses = elements.element_rows(primitive.symbols, ("CovalentRadius", "AtomicWeight")).T
    radii = radii / 100  # Å
    slabs = find_slabs(primitive.structure)
    return np.mean([_shape_of(slab, radii, masses) for slab in slabs], axis=0)


def _shape_of(slab: Slab, radii: np.ndarray, masses: np.ndarray) -> list[float]:
    n_atoms, thickness = len(slab.heights), slab.heights.max()
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
        1 + (np.diff(np.sort(slab.heights)) > PLANE_STEP).sum(),
        slab.heights.std(),
        *slab.edges,
    ]


def _surface_elements(crystal: Crystal) -> np.ndarray:
    primitive = crystal.primitive
    values = elements.element_rows(primitive.symbols, tuple(PROPERTIES))
    slabs = find_slabs(primitive.structure)
    return np.mean([_surface_elements_of(slab, values) for slab in slabs], axis=0)


def _surface_elements_of(slab: Slab, values: np.ndarray) -> np.ndarray:
    top, bottom = (values[atoms].mean(axis=0) for atoms in _surfaces(slab))
    outside = (top + bottom) / 2
    return np.stack([outside, np.abs(top - bottom), values.mean(axis=0) - outside], axis=1).ravel()


def _surface_columns() -> list[str]:
    kinds = ("at the surfaces", "difference of the surfaces", "of all atoms less at the surfaces")
    return [with_unit(f"Layers {name} {kind}", unit) for name, unit in PROPERTIES.items() for kind in kinds]


LAYER_SHAPE = Descriptor(
    "Shape of layers", lambda: [with_unit(f"Layers {label}", unit) for label, unit in SHAPE], _shape
)
SURFACE_ELEMENTS = Descriptor("Elements at surfaces", _surface_columns, _surface_elements)
ALL = (LAYER_SHAPE, SURFACE_ELEMENTS)
