"""How a structure becomes a graph: the numbers that a module's card carries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from matmosaic.exceptions import InvalidParameterError, suggest

Ties = Literal["fractional", "reference"]


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Settings of the neighbour graph; part of a backbone and of a module's card.

    Parameters
    ----------
    cutoff : float, default=8.0
        Radius of the neighbour search in Å.
    max_neighbors : int, default=12
        Number of nearest neighbours that each atom keeps. Atoms with fewer neighbours inside
        the cutoff are padded to this number with bonds of length ``cutoff + 1`` Å.
    ties : {"fractional", "reference"}, default="fractional"
        What happens when the last place falls inside a shell of equal distances.
        ``"fractional"`` keeps the whole shell and shares the remaining places among its bonds
        as fractional bond weights; the graph then depends neither on the order of the atoms nor
        on the cell chosen. ``"reference"`` cuts the shell at the order in which the neighbours
        are found, as the published CGCNN code does, and is meant for its published weights.
    tolerance : float, default=1e-4
        Distances of one structure that differ by less than this many Å are taken for equal, and
        replaced by their mean: symmetry-equivalent bonds become exactly equal. No distance moves by
        more than five times as much in practice.

    Examples
    --------
    >>> GraphSettings(ties="reference").to_dict()
    {'cutoff': 8.0, 'max_neighbors': 12, 'ties': 'reference', 'tolerance': 0.0001}
    """

    cutoff: float = 8.0
    max_neighbors: int = 12
    ties: Ties = "fractional"
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse settings that describe no graph."""
        if not (_is_finite(self.cutoff) and self.cutoff > 0):
            raise InvalidParameterError(f"'cutoff' must be a positive distance in Å. Got {self.cutoff!r}.")
        if not (_is_finite(self.max_neighbors) and self.max_neighbors == int(self.max_neighbors) >= 1):
            raise InvalidParameterError(f"'max_neighbors' must be an int >= 1. Got {self.max_neighbors!r}.")
        if not (_is_finite(self.tolerance) and 0 <= self.tolerance < 0.1):
            raise InvalidParameterError(f"'tolerance' must be in [0, 0.1) Å. Got {self.tolerance!r}.")
        if self.ties not in get_args(Ties):
            raise InvalidParameterError(suggest(str(self.ties), get_args(Ties), what="value of 'ties'"))
        # Equal settings are to be equal as JSON too: it is the key of the cache, and on cards.
        for name, kind in {"cutoff": float, "max_neighbors": int, "tolerance": float}.items():
            object.__setattr__(self, name, kind(getattr(self, name)))

    @property
    def padding_distance(self) -> float:
        """Length in Å of the bonds that pad an atom with too few neighbours."""
        return self.cutoff + 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GraphSettings:
        """Rebuild settings from :meth:`to_dict`; unknown and missing fields are errors."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InvalidParameterError(suggest(name, names, what="graph setting"))
        missing = [name for name in names if name not in values]
        if missing:
            raise InvalidParameterError(f"Graph settings lack {missing}; a card states all of {names}.")
        return cls(**values)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
