"""What a descriptor is: columns with units, and a function of a crystal that fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from matmosaic.featurizers import explain_gap

if TYPE_CHECKING:
    from matmosaic_matminer.crystal import Crystal


@dataclass(frozen=True)
class Descriptor:
    """A group of features that are defined together or not at all.

    Parameters
    ----------
    name : str
        As in matminer where it is matminer's.
    columns : callable
        Called without arguments, returns the names of the features with their units, in order.
    compute : callable
        Returns the features of a `Crystal`, one for each column; may raise.
    periodic : bool, default=True
        Whether it needs a lattice; otherwise the composition is enough.
    """

    name: str
    columns: Callable[[], Sequence[str]]
    compute: Callable[[Crystal], Any]
    periodic: bool = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features with their units."""
        return tuple(self.columns())

    def values(self, crystal: Crystal) -> np.ndarray:
        """Return the features of a crystal or molecule.

        Parameters
        ----------
        crystal : Crystal
            What is described.

        Returns
        -------
        ndarray of shape (n_columns,)
            All NaN, with the reason told to the featurizer's `transform`, if they cannot be computed.
        """
        undefined = np.full(len(self.names), np.nan)
        if self.periodic and not crystal.periodic:
            return undefined
        try:
            found = np.array([*self.compute(crystal)], dtype=float)
            if found.shape != undefined.shape:
                raise ValueError(f"{len(undefined)} numbers are expected. Got shape {found.shape}.")
        except (ImportError, MemoryError):
            raise  # no fault of the crystal
        except Exception as error:  # whatever matminer and pymatgen raise
            explain_gap(f"{self.name}: {_reason(error, crystal)}")
            return undefined
        return np.where(np.isfinite(found), found, np.nan)


def _reason(error: Exception, crystal: Crystal) -> str:
    """Return the error, or for which element there is no data where a reader of tables fails for that."""
    lacking = [symbol for symbol in crystal.elements if symbol in map(str, error.args)]
    if isinstance(error, LookupError) and lacking:
        return f"no data for {lacking[0]}"
    if isinstance(error, TypeError | AttributeError) and "NoneType" in str(error):
        return "no data for an element"
    return f"{type(error).__name__}: {error}"


def with_unit(label: str, unit: str = "") -> str:
    """Return the name of a feature, such as ``"density (g/cm^3)"``.

    Parameters
    ----------
    label : str
        What it is.
    unit : str, default=""
        Empty for numbers without a unit.
    """
    return f"{label} ({unit or 'dimensionless'})"
