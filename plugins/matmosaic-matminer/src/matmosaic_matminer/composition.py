"""Descriptors of the composition alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from matmosaic_matminer import elements
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.descriptors import Descriptor, with_unit


def _element_property(properties: dict[str, str], name: str) -> Descriptor:
    """Return statistics of properties of the elements."""
    names = tuple(properties)

    def compute(crystal: Crystal) -> Any:
        return elements.summarize(elements.element_rows(crystal.elements, names), crystal.fractions)

    return Descriptor(name, lambda: elements.labels(properties), compute, periodic=False)


def _from_matminer(
    name: str, units: Sequence[str], make: Callable[[], Any], columns: slice | list[int] | None = None
) -> Descriptor:
    """Return a descriptor that matminer computes; `make` imports and makes its class, once per process."""
    made = cache(make)

    def pick(row: Sequence[Any]) -> list[Any]:
        return [row[one] for one in columns] if isinstance(columns, list) else [*row]

    def names() -> list[str]:
        return [with_unit(*pair) for pair in zip(pick(made().feature_labels()), units, strict=True)]

    return Descriptor(
        name, names, lambda crystal: pick(made().featurize(crystal.composition)), periodic=False
    )


def _composition(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        from matminer.featurizers import composition

        return getattr(composition, name)(**options)

    return make


ELEMENT_PROPERTY = _element_property(elements.MAGPIE, "ElementProperty")
MORE_ELEMENT_PROPERTY = _element_property(elements.MAGPIE_MORE, "ElementProperty of more properties")
STOICHIOMETRY = _from_matminer("Stoichiometry", [""] * 6, _composition("Stoichiometry"))
METAL_FRACTION = _from_matminer("TMetalFraction", [""], _composition("TMetalFraction"))
VALENCE_ORBITAL = _from_matminer("ValenceOrbital", [""] * 8, _composition("ValenceOrbital", impute_nan=False))
# Whether each element has one oxidation state alone is quick to tell; the search for mixed ones is not.
ION_PROPERTY = _from_matminer(
    "IonProperty", [""] * 3, _composition("IonProperty", impute_nan=False, fast=True)
)
BAND_CENTER = _from_matminer("BandCenter", ["eV"], _composition("BandCenter", impute_nan=False))
ATOMIC_ORBITALS = _from_matminer("AtomicOrbitals", ["hartree"] * 3, _composition("AtomicOrbitals"), [2, 5, 6])
YANG = _from_matminer("YangSolidSolution", ["", ""], _composition("YangSolidSolution", impute_nan=False))
MIEDEMA = _from_matminer("Miedema", ["eV/atom"] * 3, _composition("Miedema", impute_nan=False))

CHEAP = (
    ELEMENT_PROPERTY,
    STOICHIOMETRY,
    METAL_FRACTION,
    VALENCE_ORBITAL,
    ION_PROPERTY,
    BAND_CENTER,
    ATOMIC_ORBITALS,
)
