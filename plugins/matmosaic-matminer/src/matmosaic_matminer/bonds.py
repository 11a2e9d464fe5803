"""How strong bonds are, and how fast atoms vibrate in them, by rules of thumb.

None of these is matminer's. They are meant to rank crystals, not to be read as forces or frequencies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit
from matmosaic_matminer.sites import over_sites

CUTOFF = 7.0  # Å
# Part by which lengths relative to radii may differ and be equally tight.
SAME_LENGTH = 1e-3
# How fast the valence of a bond fades with its length (Brown and Altermatt, 10.1107/S0108768185002063), in Å.
SOFTNESS = 0.37
# Of bonds much shorter than the sum of covalent radii, such as those of hydrogen.
LARGEST_VALENCE = 3.0
PROPERTIES = ("CovalentRadius", "Electronegativity", "AtomicWeight", "NValence")

SITE_COLUMNS = (
    ("shortest bond", "Å"),
    ("shortest bond by covalent radii", ""),
    ("mean bond", "Å"),
    ("effective coordination", ""),
    ("sum of valences", ""),
    ("mean electronegativity difference", ""),
    ("mean mass of neighbours", "u"),
    ("sum of stiffnesses", "1/Å^2"),
    ("frequency of the site", "1/(Å u^0.5)"),
    ("largest frequency of a bond", "1/(Å u^0.5)"),
)
EXTREME_COLUMNS = (
    ("smallest mass", "u"),
    ("largest mass", "u"),
    ("ratio of smallest and largest mass", ""),
    ("logarithm of smallest mass", "ln u"),
    ("mean logarithm of mass", "ln u"),
    ("logarithm of largest frequency of a bond", "ln 1/(Å u^0.5)"),
    ("logarithm of largest frequency of a site", "ln 1/(Å u^0.5)"),
    ("logarithm of length of the tightest bond", "ln Å"),
    ("logarithm of reduced mass of the tightest bond", "ln u"),
    ("electronegativity difference of the tightest bond", ""),
)


class Bonds(NamedTuple):
    """The bonds of one site with all atoms around it, each property of shape (n_neighbours,)."""

    lengths: np.ndarray
    """In Å."""
    relative: np.ndarray
    """Lengths by sums of covalent radii."""
    valences: np.ndarray
    """Fading exponentially with the length."""
    stiffnesses: np.ndarray
    """In 1/Å^2: valence, by the square of the length, times a mean number of valence electrons."""
    frequencies: np.ndarray
    """Of the reduced mass, in 1/(Å u^0.5)."""
    contrasts: np.ndarray
    """Differences of electronegativity."""
    neighbour_masses: np.ndarray
    """In u."""
    reduced_masses: np.ndarray
    """In u."""
    mass: float
    """Of the site, in u."""


def find_bonds(crystal: Crystal) -> list[Bonds]:
    """Return the bonds of each representative of a crystal's sites.

    Parameters
    ----------
    crystal : Crystal
        Periodic, of elements with known radii.

    Returns
    -------
    list of Bonds

    Raises
    ------
    ValueError
        If a site has no neighbours within 7 Å.
    """
    radii, negativity, masses, electrons = elements.element_rows(crystal.symbols, PROPERTIES).T
    radii = radii / 100  # Å
    found = []
    for site, around in zip(crystal.representatives, crystal.neighbours, strict=True):
        near = around.within(CUTOFF)
        if not len(near.distances):
            raise ValueError(f"a site has no neighbours within {CUTOFF:g} Å")
        others, lengths = near.sites, near.distances
        sums = radii[site] + radii[others]
        valences = np.minimum(np.exp((sums - lengths) / SOFTNESS), LARGEST_VALENCE)
        stiffnesses = np.sqrt(electrons[site] * electrons[others] + 1) * valences / lengths**2
        reduced = masses[site] * masses[others] / (masses[site] + masses[others])
        bonds = Bonds(
            lengths=lengths,
            relative=lengths / sums,
            valences=valences,
            stiffnesses=stiffnesses,
            frequencies=np.sqrt(stiffnesses / reduced),
            contrasts=np.abs(negativity[site] - negativity[others]),
            neighbour_masses=masses[others],
            reduced_masses=reduced,
            mass=float(masses[site]),
        )
        found.append(bonds)
    return found


def _site(bonds: Bonds) -> list[float]:
    shares = bonds.valences / bonds.valences.sum()
    stiffness = bonds.stiffnesses.sum()
    return [
        bonds.lengths.min(),
        bonds.relative.min(),
        shares @ bonds.lengths,
        1 / (shares @ shares),
        bonds.valences.sum(),
        shares @ bonds.contrasts,
        shares @ bonds.neighbour_masses,
        stiffness,
        np.sqrt(stiffness / bonds.mass),
        bonds.frequencies.max(),
    ]


def _extremes(crystal: Crystal) -> list[float]:
    bonds = find_bonds(crystal)
    masses = elements.element_rows(crystal.symbols, ("AtomicWeight",))[:, 0]
    tightest = _tightest(bonds, crystal.multiplicities)
    return [
        masses.min(),
        masses.max(),
        masses.min() / masses.max(),
        np.log(masses.min()),
        np.log(masses).mean(),
        np.log(max(one.frequencies.max() for one in bonds)),
        np.log(max(one.stiffnesses.sum() / one.mass for one in bonds)) / 2,
        *tightest,
    ]


def _tightest(bonds: list[Bonds], multiplicities: np.ndarray) -> np.ndarray:
    """Return means over all bonds that are as tight as the tightest, whichever atom comes first."""
    limit = np.min([one.relative.min() for one in bonds]) * (1 + SAME_LENGTH)
    if np.isnan(limit):  # a radius is not known
        return np.full(3, np.nan)
    kept = [one.relative < limit for one in bonds]
    weights = np.concatenate([np.full(np.sum(near), n) for near, n in zip(kept, multiplicities, strict=True)])
    rows = [
        np.stack([np.log(one.lengths), np.log(one.reduced_masses), one.contrasts], axis=1)[near]
        for one, near in zip(bonds, kept, strict=True)
    ]
    return np.average(np.concatenate(rows), axis=0, weights=weights)


SITES = over_sites(
    "Bonds", lambda: SITE_COLUMNS, lambda crystal: [_site(bonds) for bonds in find_bonds(crystal)]
)
EXTREMES = Descriptor(
    "Extremes of bonds",
    lambda: [with_unit(f"Bonds {label}", unit) for label, unit in EXTREME_COLUMNS],
    _extremes,
)
ALL = (SITES, EXTREMES)
