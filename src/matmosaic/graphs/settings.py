"""How a structure becomes a graph: the numbers that a module's card carries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from matmosaic.exceptions import InvalidParameterError, suggest

Ties = Literal["fractional", "whole", "reference"]

# Settings that cards leave out at their defaults, all of which are false.
_OPTIONAL = ("angles", "angle_cutoff", "undirected")
_KINDS = {
    "cutoff": float,
    "max_neighbors": int,
    "tolerance": float,
    "angles": bool,
    "angle_cutoff": float,
    "undirected": bool,
}


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Settings of the neighbour graph; part of a backbone and of a module's card.

    Parameters
    ----------
    cutoff : float, default=8.0
        Radius of the neighbour search in Å.
    max_neighbors : int or None, default=12
        Number of nearest neighbours that each atom keeps. Atoms with fewer neighbours inside
        the cutoff are padded to this number with bonds of length ``cutoff + 1`` Å. With ``angles=True``,
        None keeps all neighbours inside the cutoff.
    ties : {"fractional", "whole", "reference"}, default="fractional"
        What happens when the last place falls inside a shell of equal distances.
        ``"fractional"`` keeps the whole shell and shares the remaining places among its bonds
        as fractional bond weights; the graph then depends neither on the order of the atoms nor
        on the cell chosen. ``"whole"``, for graphs with angles, keeps the whole shell, each bond with
        weight 1. ``"reference"`` does what the published code does, and is meant for published
        weights: without angles CGCNN's, which cuts the shell at the order in which the neighbours
        are found; with angles ALIGNN's, which keeps the bonds that are exactly as long as the last (give
        ``tolerance=0``, too, for exactly its lengths).
    tolerance : float, default=1e-4
        Distances of one structure that differ by less than this many Å are taken for equal, and
        replaced by their mean: symmetry-equivalent bonds become exactly equal. No distance moves by
        more than five times as much in practice.
    angles : bool, default=False
        Whether the graph has angles between bonds, as ALIGNN needs. Then every bond is there in both
        directions, if it is among the nearest of either atom; atoms are not padded; and ``ties`` is
        ``"whole"`` or ``"reference"``.
    angle_cutoff : float or None, default=None
        Only bonds shorter than this many Å make angles; None for all. Needs ``ties="whole"``.
    undirected : bool, default=False
        Whether both directions of a bond share their features, as in CHGNet: the graph then says which
        bond is the reverse of which, and a bond makes no angle with its own reverse. Needs an
        ``angle_cutoff``.

    Examples
    --------
    >>> GraphSettings(ties="reference").to_dict()
    {'cutoff': 8.0, 'max_neighbors': 12, 'ties': 'reference', 'tolerance': 0.0001}
    """

    cutoff: float = 8.0
    max_neighbors: int | None = 12
    ties: Ties = "fractional"
    tolerance: float = 1e-4
    angles: bool = False
    angle_cutoff: float | None = None
    undirected: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that describe no graph."""
        if not (_is_finite(self.cutoff) and self.cutoff > 0):
            raise InvalidParameterError(f"'cutoff' must be a positive distance in Å. Got {self.cutoff!r}.")
        if not (_is_finite(self.tolerance) and 0 <= self.tolerance < 0.1):
            raise InvalidParameterError(f"'tolerance' must be in [0, 0.1) Å. Got {self.tolerance!r}.")
        if self.ties not in get_args(Ties):
            raise InvalidParameterError(suggest(str(self.ties), get_args(Ties), what="value of 'ties'"))
        for name in ("angles", "undirected"):
            if getattr(self, name) not in (True, False):
                raise InvalidParameterError(f"'{name}' must be True or False. Got {getattr(self, name)!r}.")
        self._check_neighbors()
        self._check_angles()
        # Equal settings are to be equal as JSON too: it is the key of the cache, and on cards.
        for name, kind in _KINDS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, kind(getattr(self, name)))

    def _check_neighbors(self) -> None:
        number = self.max_neighbors
        if number is None and not (self.angles and self.ties == "whole"):
            raise InvalidParameterError(
                "'max_neighbors' must be an int >= 1, or None with angles=True and ties='whole'. Got None."
            )
        if number is not None and not (_is_finite(number) and number == int(number) >= 1):
            raise InvalidParameterError(f"'max_neighbors' must be an int >= 1. Got {number!r}.")

    def _check_angles(self) -> None:
        refused = "fractional" if self.angles else "whole"
        if self.ties == refused:
            expected = [ties for ties in get_args(Ties) if ties != refused]
            raise InvalidParameterError(
                f"'ties' must be one of {expected} where angles={self.angles}. Got {self.ties!r}."
            )
        limit = self.angle_cutoff
        if limit is not None and not (_is_finite(limit) and limit > 0 and self.ties == "whole"):
            raise InvalidParameterError(
                "'angle_cutoff' must be None or a positive distance in Å, with angles=True and ties='whole'. "
                f"Got {limit!r} with angles={self.angles} and ties={self.ties!r}."
            )
        if self.undirected and limit is None:
            raise InvalidParameterError(
                "'undirected' needs an 'angle_cutoff'. Got undirected=True with None."
            )

    @property
    def n_places(self) -> int:
        """Number of nearest neighbours that each atom keeps, where not all are kept."""
        assert self.max_neighbors is not None, "All neighbours are kept."
        return self.max_neighbors

    @property
    def padding_distance(self) -> float:
        """Length in Å of the bonds that pad an atom with too few neighbours."""
        return self.cutoff + 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; those about angles only where they are not the defaults.

        So graphs keep the cards and cache keys that they had before there were such settings.
        """
        return {name: value for name, value in asdict(self).items() if value or name not in _OPTIONAL}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GraphSettings:
        """Rebuild settings from :meth:`to_dict`; unknown and missing fields are errors."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InvalidParameterError(suggest(name, names, what="graph setting"))
        stated = [name for name in names if name not in _OPTIONAL]
        missing = [name for name in stated if name not in values]
        if missing:
            raise InvalidParameterError(f"Graph settings lack {missing}; a card states all of {stated}.")
        return cls(**values)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
