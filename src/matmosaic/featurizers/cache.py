"""Keep features by content: in this process always, in a folder on request.

The key of a row holds the structure, with all that a featurizer may see of it, and the identity and code of
the featurizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import joblib
import numpy as np

from matmosaic.structures import caching, structure_hash

# Key, tuple and places in dictionaries: more than the features themselves where these are few.
OVERHEAD_BYTES = 512


class Features(NamedTuple):
    """What a featurizer gave for one structure."""

    values: np.ndarray
    """The features, float64 of shape (n_features,); NaN where undefined."""
    failure: str = ""
    """Why the featurizer raised; empty if it did not."""
    gaps: tuple[str, ...] = ()
    """Why single features are undefined, as far as the featurizer told: lines of text."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        text = "\n".join(self.gaps).encode()
        return {"values": self.values} | ({"gaps": np.frombuffer(text, np.uint8)} if text else {})

    @classmethod
    def from_arrays(cls, values: np.ndarray, gaps: np.ndarray | None = None) -> Features:
        """Return what the arrays hold."""
        return cls(values, gaps=() if gaps is None else tuple(gaps.tobytes().decode().split("\n")))

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""
        return self.values.nbytes + sum(map(len, self.gaps)) + OVERHEAD_BYTES


PROCESS_CACHE: caching.MemoryCache[Features] = caching.MemoryCache()


class DiskCache(caching.DiskCache[Features]):
    """Features kept in one SQLite file of a folder; failures are not, for they may have passed next time."""

    content = "features"
    kind = Features.from_arrays

    def put(self, values: Mapping[str, Features]) -> None:
        """Add features of the structures that could be described."""
        super().put({key: value for key, value in values.items() if not value.failure})


def open_cache(memory: Any = None) -> caching.Cache[Features]:
    """Return the cache that a featurizer's ``memory`` parameter asks for.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory, default=None
        ``None`` keeps features in this process; a folder keeps them there as well.

    Returns
    -------
    Cache
        Shared by all callers in this process.
    """
    return caching.layered(memory, PROCESS_CACHE, DiskCache)


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def structure_key(structure: Any) -> str:
    """Return a key that structures share if a featurizer sees the same in them, but for labels of sites.

    The hash of a structure leaves out what graphs do: isotopes, oxidation states, spins, charges and
    properties. Features may depend on them.

    Parameters
    ----------
    structure : pymatgen Structure or Molecule
        One that has passed `as_structures`.

    Returns
    -------
    str
    """
    seen = _decoration(structure)
    return structure_hash(structure) + (f"-{joblib.hash(seen)}" if seen else "")


def _decoration(structure: Any) -> list[Any]:
    """Return all but elements and geometry; nothing for a plain structure."""
    species = [specie for site in structure for specie in site.species]
    properties = [site.properties for site in structure]
    whole = [getattr(structure, name, None) for name in ("properties", "_charge", "_spin_multiplicity")]
    if all(map(_is_plain, species)) and not any(properties) and not any(whole):
        return []
    return [[(str(specie), _element(specie).name) for specie in species], properties, *whole]


def _is_plain(specie: Any) -> bool:
    """Return whether a species is an element, and no isotope of a name of its own."""
    return _element(specie) is specie and specie.name == specie.symbol


def _element(specie: Any) -> Any:
    return getattr(specie, "element", specie)
