"""Statistics, over the sites of a crystal, of descriptors of their surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal, Neighbours
from matmosaic_matminer.descriptors import Descriptor, with_unit
from matmosaic_matminer.voronoi import Cell

SITE_STATISTICS = ("mean", "std_dev", "minimum", "maximum")
WARD_STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev")


def over_sites(
    name: str,
    columns: Callable[[], Sequence[tuple[str, str]]],
    compute: Callable[[Crystal], Sequence[Any]],
    statistics: tuple[str, ...] = SITE_STATISTICS,
) -> Descriptor:
    """Return statistics of a descriptor of sites as a descriptor of crystals.

    Parameters
    ----------
    name : str
        Of the descriptor; each column begins with it.
    columns : callable
        Returns label and unit of each number of a site.
    compute : callable
        Returns the numbers of each representative of a crystal's sites.
    statistics : tuple of str, default=SITE_STATISTICS
        As of `elements.summarize`.

    Returns
    -------
    Descriptor
    """

    def names() -> list[str]:
        return [
            with_unit(f"{name} {statistic} {label}", unit)
            for label, unit in columns()
            for statistic in statistics
        ]

    def values(crystal: Crystal) -> np.ndarray:
        rows = np.array([[*row] for row in compute(crystal)], dtype=float)
        return elements.summarize(rows, crystal.multiplicities, statistics)

    return Descriptor(name, names, values)


# --- from distances --------------------------------------------------------------------------------------

AGNI_CUTOFF = 8.0  # Å
AGNI_ETAS = np.logspace(np.log10(0.8), np.log10(16), 8)  # Å
GRDF_CUTOFF = 10.0  # Å
GRDF_CENTRES = np.arange(0.0, 10.0)  # Å; Gaussians of width 1 Å
BEHLER_CUTOFF = 6.5  # Å
G2_ETAS = np.array([0.05, 4.0, 20.0, 80.0])
G4_ETA = 0.005
G4_ZETAS = (1.0, 4.0)
G4_GAMMAS = (1.0, -1.0)


def _fade(distances: np.ndarray, cutoff: float) -> np.ndarray:
    """Return 1 at distance 0 and 0 from the cutoff on."""
    return np.where(distances < cutoff, 0.5 * (np.cos(np.pi * distances / cutoff) + 1), 0.0)


def _agni(around: Neighbours) -> np.ndarray:
    near = around.within(AGNI_CUTOFF).distances
    return np.exp(-((near[:, None] / AGNI_ETAS) ** 2)).T @ _fade(near, AGNI_CUTOFF)


@cache
def _grdf_volumes() -> np.ndarray:
    from matminer.featurizers.utils.grdf import Gaussian

    return np.array([Gaussian(1.0, centre).volume(GRDF_CUTOFF) for centre in GRDF_CENTRES])


def _grdf(around: Neighbours) -> np.ndarray:
    near = around.within(GRDF_CUTOFF).distances
    return np.exp(-((near[:, None] - GRDF_CENTRES) ** 2)).sum(axis=0) / _grdf_volumes()


def _behler(around: Neighbours) -> np.ndarray:
    """Return radial and angular symmetry functions (Behler, 10.1063/1.3553717)."""
    near = around.within(BEHLER_CUTOFF)
    faded = _fade(near.distances, BEHLER_CUTOFF)
    radial = np.exp(-np.outer(G2_ETAS, (near.distances / BEHLER_CUTOFF) ** 2)) @ faded
    one, other = np.triu_indices(len(near.distances), 1)
    squares = near.distances**2
    products = (near.vectors @ near.vectors.T)[one, other]
    third = squares[one] + squares[other] - 2 * products
    cosines = products / (near.distances[one] * near.distances[other])
    sides = (squares[one] + squares[other] + third) / BEHLER_CUTOFF**2
    window = np.exp(-G4_ETA * sides) * faded[one] * faded[other]
    window *= _fade(np.sqrt(np.maximum(third, 0)), BEHLER_CUTOFF)
    angular = [
        2 ** (1 - zeta) * ((1 + gamma * cosines) ** zeta) @ window for zeta in G4_ZETAS for gamma in G4_GAMMAS
    ]
    return np.concatenate([radial, angular])


def _around(compute: Callable[[Neighbours], Any]) -> Callable[[Crystal], list[Any]]:
    return lambda crystal: [compute(around) for around in crystal.neighbours]


AGNI = over_sites(
    "AGNIFingerprints", lambda: [(f"AGNI eta={eta:.2e}", "") for eta in AGNI_ETAS], _around(_agni)
)
GRDF = over_sites(
    "GeneralizedRadialDistributionFunction",
    lambda: [(f"Gaussian center={centre} width=1.0", "1/Å^3") for centre in GRDF_CENTRES],
    _around(_grdf),
)
BEHLER = over_sites(
    "GaussianSymmFunc",
    lambda: (
        [(f"G2_{eta}", "") for eta in G2_ETAS]
        + [(f"G4_{G4_ETA}_{zeta}_{gamma}", "") for zeta in G4_ZETAS for gamma in G4_GAMMAS]
    ),
    _around(_behler),
)


# --- from Voronoi cells ----------------------------------------------------------------------------------

HIGHEST_DEGREE = 10
FACE_EDGES = range(3, 11)


def _coordination(cell: Cell) -> list[float]:
    return [cell.areas.sum() ** 2 / (cell.areas**2).sum()]


def _bond_length(cell: Cell) -> list[float]:
    return [np.average(cell.distances, weights=cell.solid_angles)]


def _bond_order(cell: Cell) -> np.ndarray:
    """Return Q_l by the addition theorem: no spherical harmonics, and the same in any orientation."""
    weights = cell.solid_angles / cell.solid_angles.sum()
    cosines = np.clip(cell.normals @ cell.normals.T, -1, 1)
    legendre = np.polynomial.legendre.legvander(cosines, HIGHEST_DEGREE)
    squares = np.einsum("i,ijl,j->l", weights, legendre, weights)[1:]
    return np.sqrt(np.maximum(squares, 0))


def _voronoi(cell: Cell) -> np.ndarray:
    kept = cell.n_edges <= FACE_EDGES[-1]
    counts = np.array([(cell.n_edges == edges).sum() for edges in FACE_EDGES])
    parts = np.stack([cell.volumes, cell.areas, cell.distances], axis=1)[kept]
    statistics = elements.summarize(parts, np.ones(len(parts)), SITE_STATISTICS)
    return np.concatenate([counts, counts / counts.sum(), parts[:, :2].sum(axis=0), statistics])


def _voronoi_columns() -> list[tuple[str, str]]:
    counts = [(f"Voro_index_{edges}", "") for edges in FACE_EDGES]
    shares = [(f"Symmetry_index_{edges}", "") for edges in FACE_EDGES]
    units = {"vol": "Å^3", "area": "Å^2", "dist": "Å"}
    sums = [("Voro_vol_sum", "Å^3"), ("Voro_area_sum", "Å^2")]
    parts = [(f"Voro_{what}_{one}", unit) for what, unit in units.items() for one in SITE_STATISTICS]
    return counts + shares + sums + parts


def _local_difference(crystal: Crystal) -> list[np.ndarray]:
    """Return mean differences from the neighbours, weighted by the areas of faces (Ward et al.)."""
    known = elements.element_rows(crystal.elements, tuple(elements.MAGPIE))
    of_element = dict(zip(crystal.elements, known, strict=True))
    table = np.stack([of_element[symbol] for symbol in crystal.symbols])
    return [
        np.average(np.abs(table[cell.neighbours] - table[row]), axis=0, weights=cell.areas)
        for row, cell in zip(crystal.representatives, crystal.cells, strict=True)
    ]


def _in_cells(compute: Callable[[Cell], Any]) -> Callable[[Crystal], list[Any]]:
    return lambda crystal: [compute(cell) for cell in crystal.cells]


COORDINATION = over_sites(
    "CoordinationNumber", lambda: [("CN_VoronoiNN", "")], _in_cells(_coordination), WARD_STATISTICS
)
BOND_LENGTH = over_sites("AverageBondLength", lambda: [("Average bond length", "Å")], _in_cells(_bond_length))
BOND_ORDER = over_sites(
    "BondOrientationalParameter",
    lambda: [(f"BOOP Q l={degree}", "") for degree in range(1, HIGHEST_DEGREE + 1)],
    _in_cells(_bond_order),
)
VORONOI = over_sites("VoronoiFingerprint", _voronoi_columns, _in_cells(_voronoi))
LOCAL_DIFFERENCE = over_sites(
    "LocalPropertyDifference",
    lambda: [(f"local difference in {name}", unit) for name, unit in elements.MAGPIE.items()],
    _local_difference,
    WARD_STATISTICS,
)
