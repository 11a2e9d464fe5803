"""The presets: which descriptors, in which order, in which version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matmosaic_matminer import charges, composition, coordination, sites, structure
from matmosaic_matminer.descriptors import Descriptor


@dataclass(frozen=True)
class Preset:
    """Descriptors under a name.

    Parameters
    ----------
    version : str
        Changed whenever a feature is added, removed, renamed or computed otherwise.
    descriptors : tuple of Descriptor
        In the order of their features.
    """

    version: str
    descriptors: tuple[Descriptor, ...]

    @cached_property
    def names(self) -> np.ndarray:
        """Names of the features with units, shape (n_features,)."""
        return np.array([name for one in self.descriptors for name in one.names], dtype=object)


CHEAP_STRUCTURE = (
    structure.DENSITY,
    structure.SYMMETRY,
    structure.COMPLEXITY,
    structure.HETEROGENEITY,
    structure.PACKING,
    structure.ORDERING,
    sites.COORDINATION,
    coordination.COORDINATION_NUMBERS,
    coordination.DIMENSIONALITY,
    sites.BOND_LENGTH,
    sites.LOCAL_DIFFERENCE,
    sites.VORONOI,
    sites.BOND_ORDER,
    sites.GRDF,
    sites.AGNI,
    sites.BEHLER,
)

SLOW_STRUCTURE = (coordination.MOTIFS, sites.ORDER_PARAMETERS, charges.EWALD)

PRESETS = {
    "composition": Preset("1", composition.CHEAP),
    "structure": Preset("1", CHEAP_STRUCTURE),
    "fast": Preset("1", (*composition.CHEAP, *CHEAP_STRUCTURE)),
    "full": Preset("1", (*composition.ALL, charges.OXIDATION_STATES, *CHEAP_STRUCTURE, *SLOW_STRUCTURE)),
}
