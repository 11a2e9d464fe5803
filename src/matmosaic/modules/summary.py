"""What a listing shows of a module, and filters on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from matmosaic.exceptions import UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.modules.card import ModuleCard

__all__ = ["FILTERS", "ModuleSummary"]


@dataclass(frozen=True, kw_only=True)
class ModuleSummary:
    """The facts of a card by which modules are chosen; a store's index can hold them for all modules."""

    name: str
    """Name of the module."""
    version: str
    """Version of the module."""
    backbone: str
    """Name of the backbone plugin."""
    kind: str
    """``"full"`` or ``"adapter"``."""
    sha256: str | None
    """sha256 of the weights."""
    base: str | None
    """sha256 of the weights that training started from."""
    target: str
    """What the head predicts; of several properties all names."""
    unit: str
    """Unit of the target; of several properties all units."""
    outputs: tuple[tuple[str, str], ...]
    """Name and unit of each property that is predicted."""
    n_train: int | None
    """Number of structures trained on."""
    mae: float | None
    """Mean absolute error that the card states, in ``unit``."""
    license_weights: str | None
    """SPDX identifier of the licence of the weights."""

    @classmethod
    def of(cls, card: ModuleCard) -> ModuleSummary:
        """Return the summary of a card.

        Parameters
        ----------
        card : ModuleCard
            The card.

        Returns
        -------
        ModuleSummary
            Its summary.
        """
        return cls.from_fields({name: getattr(card, name) for name in _FIELDS})

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ModuleSummary:
        """Return the summary of a card's fields, which are not checked.

        Parameters
        ----------
        fields : mapping
            Fields as on a :class:`ModuleCard`; those that no summary holds are not looked at.

        Returns
        -------
        ModuleSummary
            Their summary.
        """
        taken = {name: fields[name] for name in _COPIED}
        properties = fields.get("properties") or [{"name": fields["target"], "unit": fields["unit"]}]
        outputs = tuple((one["name"], one["unit"]) for one in properties)
        return cls(**taken, outputs=outputs, mae=_mae(fields["metrics"]))

    def matches(self, key: str, pattern: str) -> bool:
        """Return whether the module passes a filter.

        Parameters
        ----------
        key : str
            One of ``property``, ``unit``, ``backbone``, ``license``, ``kind`` and ``base``.
        pattern : str
            What the value must be, or a glob of it; case, ``_`` and ``-`` do not matter. A base is named
            by the first digits of its sha256.

        Returns
        -------
        bool
            Whether it does; of several properties, whether one does.

        Raises
        ------
        UnknownNameError
            If there is no such key.
        """
        check_filter(key)
        wanted = _plain(pattern) + ("*" if key == "base" else "")
        return any(fnmatchcase(_plain(value), wanted) for value in FILTERS[key](self) if value)


def check_filter(key: str) -> None:
    """Raise UnknownNameError unless this is a key that :meth:`ModuleSummary.matches` takes."""
    if key not in FILTERS:
        raise UnknownNameError(suggest(key, FILTERS, what="filter"))


def _mae(metrics: Iterable[Mapping[str, Any]]) -> float | None:
    return next((one["value"] for one in metrics if one["name"].lower() == "mae"), None)


def _plain(text: str) -> str:
    """Return a text or glob in lower case, with one space for spaces, ``_`` and ``-`` outside of brackets."""
    return re.sub(r"(\[[^]]*\])|[\s_-]+", lambda match: match[1] or " ", text.casefold().strip())


_COPIED = (
    "name",
    "version",
    "backbone",
    "kind",
    "sha256",
    "base",
    "target",
    "unit",
    "n_train",
    "license_weights",
)
_FIELDS = (*_COPIED, "properties", "metrics")

#: The values of a summary that each filter compares.
FILTERS: dict[str, Callable[[ModuleSummary], Iterable[str | None]]] = {
    "property": lambda one: [name for name, _ in one.outputs],
    "unit": lambda one: [unit for _, unit in one.outputs],
    "backbone": lambda one: [one.backbone],
    "license": lambda one: [one.license_weights],
    "kind": lambda one: [one.kind],
    "base": lambda one: [one.base],
}
