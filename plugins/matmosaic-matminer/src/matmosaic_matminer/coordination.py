"""How likely each coordination number is, and which motif the neighbours then form.

The probabilities of pymatgen's CrystalNN (Pan et al., 10.1021/acs.inorgchem.0c02996) with its default
settings, from exact Voronoi cells, which do not end at a search radius; and the order parameters of
Zimmermann and Jain (10.1039/C9RA07755C) that matminer combines with them.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit
from matmosaic_matminer.sites import over_sites
from matmosaic_matminer.voronoi import Cell

HIGHEST_NUMBER = 24
# Settings of CrystalNN: Å beyond the sum of radii where a bond weakens and ends; the largest difference of
# electronegativities between two elements, and how much it strengthens a bond.
WEAKENS, ENDS = 0.5, 1.0
LARGEST_DIFFERENCE, DIFFERENCE_WEIGHT = 3.3, 3.0
WEIGHT_DIGITS = 3


class Coordination(NamedTuple):
    """The coordination of one site."""

    probabilities: dict[int, float]
    """Of coordination numbers from 1 on; what is missing to 1 is that of 0."""
    sites: np.ndarray
    """Rows of the neighbours in the structure, the strongest bond first, shape (n_neighbours,)."""
    vectors: np.ndarray
    """To the neighbours in Å, shape (n_neighbours, 3)."""


def coordination(crystal: Crystal, row: int, cell: Cell) -> Coordination:
    """Return the coordination of a site.

    Parameters
    ----------
    crystal : Crystal
        What the site is in.
    row : int
        Of the site.
    cell : Cell
        Of the site.

    Returns
    -------
    Coordination
    """
    weights = cell.solid_angles**2 / cell.areas * _affinity(crystal, row, cell)
    weights = np.round(weights / weights.max() * _nearness(crystal, row, cell), WEIGHT_DIGITS)
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    levels, counts = np.unique(-weights[order], return_counts=True)
    bounds = _half_disc(np.append(-levels, 0.0))
    numbers = np.cumsum(counts)
    found = dict(zip(numbers.tolist(), (bounds[:-1] - bounds[1:]).tolist(), strict=True))
    vectors = cell.normals * cell.distances[:, None]
    return Coordination(found, cell.neighbours[order], vectors[order])


def _half_disc(weights: np.ndarray) -> np.ndarray:
    """Return the share of a quarter of the unit disc that is left of each abscissa."""
    return (weights * np.sqrt(1 - weights**2) + np.arcsin(weights)) / (np.pi / 2)


def _affinity(crystal: Crystal, row: int, cell: Cell) -> np.ndarray:
    values = np.array([specie.X for specie in crystal.species], dtype=float)
    difference = np.abs(values[cell.neighbours] - values[row]) / LARGEST_DIFFERENCE
    return 1 + DIFFERENCE_WEIGHT * np.sqrt(np.nan_to_num(difference))


def _nearness(crystal: Crystal, row: int, cell: Cell) -> np.ndarray:
    radii = np.array([_radius(specie) for specie in crystal.species])
    beyond = cell.distances - radii[cell.neighbours] - radii[row]
    part = np.clip((beyond - WEAKENS) / (ENDS - WEAKENS), 0, 1)
    return 0.5 * (np.cos(np.pi * part) + 1)


def _radius(specie: Any) -> float:
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    radius = CovalentRadius.radius.get(specie.symbol) or specie.atomic_radius
    if radius is None:
        raise KeyError(specie.symbol)
    return float(radius)


def _coordinations(crystal: Crystal) -> list[Coordination]:
    sites = zip(crystal.representatives, crystal.cells, strict=True)
    return [coordination(crystal, row, cell) for row, cell in sites]


def _probabilities(crystal: Crystal) -> list[list[float]]:
    numbers = range(1, HIGHEST_NUMBER + 1)
    return [[one.probabilities.get(number, 0.0) for number in numbers] for one in _coordinations(crystal)]


# --- dimensionality --------------------------------------------------------------------------------------


def _bonds(crystal: Crystal) -> list[tuple[int, int, np.ndarray]]:
    """Return the bonds of the likeliest coordinations: two sites, and the cell of the second."""
    fractions = crystal.structure.frac_coords
    inverse = crystal.structure.lattice.inv_matrix
    found = []
    for row, site in enumerate(_coordinations(crystal)):
        number = max(site.probabilities, key=lambda one: site.probabilities[one], default=0)
        if site.probabilities.get(number, 0.0) < 1 - sum(site.probabilities.values()):
            continue  # no neighbour at all is likelier
        images = site.vectors @ inverse + fractions[row] - fractions[site.sites]
        pairs = zip(site.sites[:number], np.round(images[:number]), strict=True)
        found += [(row, int(other), image) for other, image in pairs]
    return found


def _dimensionality(crystal: Crystal) -> list[int]:
    """Return in how many directions the best connected part extends (Larsen et al.)."""
    whole = crystal.primitive
    around: list[list[tuple[int, np.ndarray]]] = [[] for _ in whole.structure]
    for one, other, image in _bonds(whole):
        around[one].append((other, image))
        around[other].append((one, -image))
    reached: dict[int, np.ndarray] = {}
    best = 0
    for start in range(len(around)):
        if start not in reached:
            best = max(best, _extent(start, around, reached))
    return [best]


def _extent(start: int, around: list[list[tuple[int, np.ndarray]]], reached: dict[int, np.ndarray]) -> int:
    """Walk from a site; two ways to a site that end in different cells show a direction."""
    reached[start] = np.zeros(3)
    waiting, directions = [start], [np.zeros(3)]
    while waiting:
        one = waiting.pop()
        for other, image in around[one]:
            place = reached[one] + image
            if other in reached:
                directions.append(place - reached[other])
            else:
                reached[other] = place
                waiting.append(other)
    return int(np.linalg.matrix_rank(np.array(directions)))


# --- motifs ----------------------------------------------------------------------------------------------


@cache
def _motifs() -> list[tuple[int, str, Any]]:
    """Return coordination number, name and order parameter of each motif that matminer knows."""
    from matminer.featurizers.site import CrystalNNFingerprint

    known = CrystalNNFingerprint.from_preset("ops")
    return [
        (number, name, order)
        for number, names in known.op_types.items()
        for name, order in zip(names, known.ops[number], strict=True)
        if name != "wt"
    ]


def _motifs_of(site: Coordination) -> list[float]:
    """Return order parameters, each times the probability of its coordination number."""
    places = [SimpleNamespace(coords=vector) for vector in (np.zeros(3), *site.vectors)]

    def value(number: int, order: Any) -> float:
        share = site.probabilities.get(number, 0.0)
        if not share:
            return 0.0
        near = places[: number + 1]
        return share * (order.get_order_parameters(near, 0, indices_neighs=[*range(1, len(near))])[0] or 0.0)

    return [value(number, order) for number, _, order in _motifs()]


COORDINATION_NUMBERS = over_sites(
    "CrystalNNFingerprint",
    lambda: [(f"wt CN_{number}", "") for number in range(1, HIGHEST_NUMBER + 1)],
    _probabilities,
)
DIMENSIONALITY = Descriptor(
    "Dimensionality", lambda: [with_unit("dimensionality")], _dimensionality
)  # 10.1103/PhysRevMaterials.3.034003
MOTIFS = over_sites(
    "CrystalNNFingerprint",
    lambda: [(f"{name} CN_{number}", "") for number, name, _ in _motifs()],
    lambda crystal: [_motifs_of(site) for site in _coordinations(crystal)],
)
