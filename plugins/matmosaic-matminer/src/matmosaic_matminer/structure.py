"""Descriptors of a crystal as a whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit

# As matminer numbers the crystal systems; the last space group of each.
CRYSTAL_SYSTEMS = {2: 7, 15: 6, 74: 5, 142: 4, 167: 3, 194: 2, 230: 1}
CENTROSYMMETRIC = {"-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m"}
HETEROGENEITY_STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev")


def _density(crystal: Crystal) -> list[float]:
    structure = crystal.structure
    radii = [float(specie.atomic_radius or np.nan) for specie in crystal.species]
    spheres = 4 / 3 * np.pi * np.power(radii, 3).sum()
    return [structure.density, structure.volume / len(structure), spheres / structure.volume]


def _symmetry(crystal: Crystal) -> list[float]:
    found = crystal.space_group
    system = next(number for last, number in CRYSTAL_SYSTEMS.items() if found.number <= last)
    return [found.number, system, found.pointgroup in CENTROSYMMETRIC, _point_group_order(found.hall_number)]


@cache
def _point_group_order(hall_number: int) -> int:
    """Return how many rotations there are: of all operations, there are more in larger cells."""
    import spglib

    operations: Any = spglib.get_symmetry_from_database(hall_number)
    return len(np.unique(operations["rotations"], axis=0))


def _complexity(crystal: Crystal) -> list[float]:
    """Return the information that tells an atom's orbit (Krivovichev, 10.1180/minmag.2013.077.3.05)."""
    counts = np.unique(crystal.space_group.crystallographic_orbits, return_counts=True)[1]
    shares = counts / counts.sum()
    return [-(shares * np.log2(shares)).sum(), len(shares)]


def _heterogeneity(crystal: Crystal) -> np.ndarray:
    """Return how bond lengths and cell volumes vary (Ward et al., 10.1103/PhysRevB.96.024104)."""
    cells, weights = crystal.cells, crystal.multiplicities
    lengths = np.array([np.average(cell.distances, weights=cell.areas) for cell in cells])
    variation = [
        np.average(np.abs(cell.distances - length), weights=cell.areas) / length
        for cell, length in zip(cells, lengths, strict=True)
    ]
    volumes = np.array([cell.volumes.sum() for cell in cells])
    lengths = lengths / np.average(lengths, weights=weights)
    volumes = volumes / np.average(volumes, weights=weights)
    deviations = elements.summarize(np.stack([lengths, volumes], axis=1), weights, ("avg_dev",))
    spread = elements.summarize(np.array(variation)[:, None], weights, HETEROGENEITY_STATISTICS)
    return np.concatenate([[deviations[0], lengths.max(), lengths.min()], spread, [deviations[1]]])


def _packing(crystal: Crystal) -> list[float]:
    radii = np.array([cell.distances.min() / 2 for cell in crystal.cells])
    spheres = 4 / 3 * np.pi * (crystal.multiplicities * radii**3).sum()
    return [spheres / crystal.structure.volume]


def _ordering(crystal: Crystal) -> list[float]:
    """Return how far the elements of neighbours are from random ones (Ward et al.)."""
    if len(crystal.elements) == 1:
        return [0.0]
    shares = [
        [np.average(crystal.symbols[cell.neighbours] == one, weights=cell.areas) for one in crystal.elements]
        for cell in crystal.cells
    ]
    excess = np.abs(1 - np.array(shares) / crystal.fractions).mean(axis=1)
    return [np.average(excess, weights=crystal.multiplicities)]


def _named(*pairs: tuple[str, str]) -> Any:
    return lambda: [with_unit(*pair) for pair in pairs]


DENSITY = Descriptor(
    "DensityFeatures",
    _named(("density", "g/cm^3"), ("vpa", "Å^3/atom"), ("packing fraction", "")),
    _density,
)
SYMMETRY = Descriptor(
    "GlobalSymmetryFeatures",
    _named(
        ("spacegroup_num", ""),
        ("crystal_system_int", ""),
        ("is_centrosymmetric", ""),
        ("point group order", ""),
    ),
    _symmetry,
)
COMPLEXITY = Descriptor(
    "StructuralComplexity",
    _named(("structural complexity per atom", "bit"), ("number of inequivalent sites", "")),
    _complexity,
)
HETEROGENEITY = Descriptor(
    "StructuralHeterogeneity",
    _named(
        ("mean absolute deviation in relative bond length", ""),
        ("max relative bond length", ""),
        ("min relative bond length", ""),
        *((f"{one} neighbor distance variation", "") for one in HETEROGENEITY_STATISTICS),
        ("mean absolute deviation in relative cell size", ""),
    ),
    _heterogeneity,
)
PACKING = Descriptor("MaximumPackingEfficiency", _named(("max packing efficiency", "")), _packing)
ORDERING = Descriptor("ChemicalOrdering", _named(("mean ordering parameter shell 1", "")), _ordering)
