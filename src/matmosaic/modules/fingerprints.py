"""What a card says of the structures that a module was trained on, without disclosing any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from matmosaic.structures import (
    FINGERPRINT_SCHEME,
    as_structures,
    composition_fingerprint,
    structure_arrays,
    structure_fingerprint,
    structure_hash,
)
from matmosaic.structures.fingerprints import LENGTH

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

    from matmosaic.modules.card import ModuleCard

#: What stands on a card: a dict, or a list on cards of version 0.1, whose hashes name one cell of a crystal.
Field = dict[str, Any] | list[str]


class _Pair(NamedTuple):
    structure: str
    composition: str


# By structure hash: folds of a cross-validation see the same structures many times.
_known: dict[str, _Pair] = {}
_MOST_KNOWN = 2**17


@dataclass(frozen=True)
class TrainingFingerprints:
    """One-way hashes of the structures that a module has seen in training.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> cell = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    >>> seen = TrainingFingerprints.of([cell, cell * 2])
    >>> len(seen.structures), len(seen.compositions), seen.complete
    (1, 1, True)
    """

    structures: frozenset[str] = frozenset()
    """Fingerprints of crystals, see :func:`~matmosaic.structures.structure_fingerprint`."""
    compositions: frozenset[str] = frozenset()
    """Fingerprints of reduced compositions."""
    complete: bool = True
    """Whether they are those of all structures; if not, the module has seen others, too."""

    @classmethod
    def of(cls, X: Any, *, complete: bool = True) -> TrainingFingerprints:
        """Return the fingerprints of structures.

        Parameters
        ----------
        X : structures, length n_structures
            As :func:`~matmosaic.as_structures` takes them.
        complete : bool, default=True
            Whether these are all structures of the training.

        Returns
        -------
        TrainingFingerprints
            Without their order, and without how often one occurs.

        Raises
        ------
        InvalidStructuresError
            If a row cannot be used.
        """
        pairs = [_fingerprints(one) for one in as_structures(X)]
        return cls(
            frozenset(one.structure for one in pairs), frozenset(one.composition for one in pairs), complete
        )

    @classmethod
    def on(cls, card: ModuleCard) -> TrainingFingerprints | None:
        """Return those on a card, or None for one without, or with hashes of another kind."""
        return cls.from_field(card.fingerprints)

    @classmethod
    def from_field(cls, field: Field) -> TrainingFingerprints | None:
        """Return what :meth:`to_field` gave, or None for none, or for hashes of another kind."""
        if not isinstance(field, dict) or field["scheme"] != FINGERPRINT_SCHEME:
            return None
        known = {name: frozenset(_split(field[name])) for name in ("structures", "compositions")}
        return cls(**known, complete=field["complete"]) if known["structures"] else None

    def to_field(self) -> Field:
        """Return the field ``fingerprints`` of a card; an empty list if there are none.

        Returns
        -------
        dict or list
            ``scheme``, ``complete``, and ``structures`` and ``compositions``: sorted hashes of 12 digits, one
            after the other in one text.
        """
        if not self.structures:
            return []
        return {
            "scheme": FINGERPRINT_SCHEME,
            "complete": self.complete,
            "structures": "".join(sorted(self.structures)),
            "compositions": "".join(sorted(self.compositions)),
        }

    @classmethod
    def joined(cls, parts: Iterable[TrainingFingerprints | None]) -> TrainingFingerprints:
        """Return those of several trainings together; complete only if each of them is known and complete."""
        given: Sequence[TrainingFingerprints | None] = list(parts)
        known = [one for one in given if one is not None]
        return cls(
            frozenset().union(*(one.structures for one in known)),
            frozenset().union(*(one.compositions for one in known)),
            complete=len(known) == len(given) and all(one.complete for one in known),
        )


def _split(hashes: str) -> Iterable[str]:
    return (hashes[start : start + LENGTH] for start in range(0, len(hashes), LENGTH))


def _fingerprints(structure: Structure | Molecule) -> _Pair:
    arrays = structure_arrays(structure)
    key = structure_hash(arrays)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = _Pair(structure_fingerprint(arrays), composition_fingerprint(arrays))
    return found
