"""The presets: which descriptors, in which order, in which version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matmosaic_matminer import bonds, charges, composition, coordination, layers, sites, structure
from matmosaic_matminer.descriptors import Descriptor

GROUPS: dict[str, tuple[Descriptor, ...]] = {
    "composition": composition.CHEAP,
    "symmetry": (structure.SYMMETRY, structure.COMPLEXITY),
    "packing": (
        structure.DENSITY,
        structure.PACKING,
        structure.HETEROGENEITY,
        structure.ORDERING,
        sites.VORONOI,
    ),
    "coordination": (
        coordination.DIMENSIONALITY,
        coordination.COORDINATION_NUMBERS,
        sites.COORDINATION,
        sites.BOND_LENGTH,
        sites.BOND_ORDER,
        sites.LOCAL_DIFFERENCE,
    ),
    "layers": layers.ALL,
    "bonds": bonds.ALL,
    "radial": (sites.GRDF, sites.AGNI, sites.BEHLER),
    "motifs": (coordination.MOTIFS,),
    "elements": (composition.MORE_ELEMENT_PROPERTY,),
    # Of models of metals: NaN where an element is none.
    "alloys": (composition.YANG, composition.MIEDEMA),
    "charges": (charges.OXIDATION_STATES, charges.EWALD),
}
"""Descriptors of one kind."""

VERSIONS = {"layers": "2", "bonds": "2", "radial": "2"}
CHEAP_STRUCTURE = ("symmetry", "packing", "coordination", "layers", "bonds", "radial")


@dataclass(frozen=True)
class Preset:
    """Groups of descriptors under a name.

    Parameters
    ----------
    version : str
        Changed whenever a feature is added, removed, renamed or computed otherwise.
    groups : tuple of str
        In the order of their features.
    """

    version: str
    groups: tuple[str, ...]

    @cached_property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """All descriptors, in the order of their features."""
        return tuple(one for group in self.groups for one in GROUPS[group])

    @cached_property
    def names(self) -> np.ndarray:
        """Names of the features with units, shape (n_features,)."""
        return np.array([name for one in self.descriptors for name in one.names], dtype=object)

    @cached_property
    def group_names(self) -> np.ndarray:
        """Group of each feature, shape (n_features,)."""
        widths = {group: sum(len(one.names) for one in GROUPS[group]) for group in self.groups}
        return np.repeat(np.array([*widths], dtype=object), [*widths.values()])


PRESETS = {
    **{group: Preset(VERSIONS.get(group, "1"), (group,)) for group in GROUPS},
    "structure": Preset("2", CHEAP_STRUCTURE),
    "fast": Preset("2", ("composition", *CHEAP_STRUCTURE)),
    "full": Preset("2", tuple(GROUPS)),
}
