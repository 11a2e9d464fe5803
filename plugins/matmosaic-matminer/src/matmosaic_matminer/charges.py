"""Descriptors that need oxidation states, which are guessed from the composition."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit

# Larger formula units are guessed from multiples of a smaller one: the search grows exponentially.
LARGEST_FORMULA = 30
EWALD_DIGITS = 6
STATISTICS = ("minimum", "maximum", "range", "std_dev")


@lru_cache(maxsize=10_000)
def guess_charges(composition: Any) -> dict[str, float]:
    """Return the mean oxidation state of each element, in elementary charges.

    Parameters
    ----------
    composition : pymatgen Composition
        Of elements alone, reduced.

    Returns
    -------
    dict of str to float
        By symbol; all 0 if no combination of known states is neutral, as in most intermetallics.
    """
    if composition.num_atoms > LARGEST_FORMULA:
        raise ValueError(f"oxidation states of more than {LARGEST_FORMULA} atoms are not guessed")
    found = composition.oxi_state_guesses()
    neutral = {element.symbol: 0.0 for element in composition.elements}
    return neutral | {symbol: float(state) for symbol, state in (found[0] if found else {}).items()}


def _states(crystal: Crystal) -> np.ndarray:
    charges = guess_charges(crystal.composition)
    values = np.array([[charges[symbol]] for symbol in crystal.elements])
    return elements.summarize(values, crystal.fractions, STATISTICS)


def _ewald(crystal: Crystal) -> list[float]:
    """Return the electrostatic energy of the primitive cell, per atom."""
    from pymatgen.analysis.ewald import EwaldSummation

    charges = guess_charges(crystal.composition)
    if not any(charges.values()):
        return [0.0]
    charged = crystal.primitive.structure.copy()
    charged.add_oxidation_state_by_element(charges)
    return [EwaldSummation(charged, acc_factor=EWALD_DIGITS).total_energy / len(charged)]


OXIDATION_STATES = Descriptor(
    "OxidationStates",
    lambda: [with_unit(f"{one} oxidation state", "e") for one in STATISTICS],
    _states,
    periodic=False,
)
EWALD = Descriptor("EwaldEnergy", lambda: [with_unit("ewald_energy_per_atom", "eV/atom")], _ewald)
