"""The card of a module: what its weights are, what they predict, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NoReturn

import numpy as np

from matmosaic._version import __version__
from matmosaic.exceptions import ModuleFormatError
from matmosaic.modules._card_schema import FORMAT_VERSION, OPTIONAL, card_schema
from matmosaic.modules._schema import check
from matmosaic.modules.names import check_module_name

__all__ = ["ModuleCard"]

# Far more than any card or index needs.
_MAX_DEPTH = 32


def _unscaled() -> dict[str, Any]:
    return {"name": "identity", "mean": 0.0, "std": 1.0, "right_skewed": False}


def _no_dataset() -> dict[str, str | None]:
    return {"name": None, "doi": None}


@dataclass(frozen=True, kw_only=True)
class ModuleCard:
    """Everything that must be known about a module besides its weights.

    The fields are fixed: a card with an unknown, missing or mistyped field is refused. Values are
    those of JSON; the constructor copies them and turns tuples and numpy numbers into lists and
    Python numbers.

    Raises
    ------
    ModuleFormatError
        If a value is not what its field expects.
    InvalidParameterError
        If ``name`` cannot name a module.

    Examples
    --------
    >>> from matmosaic.graphs import GraphSettings
    >>> card = ModuleCard(
    ...     name="emt-eform",
    ...     backbone="cgcnn",
    ...     graph=GraphSettings().to_dict(),
    ...     target="formation energy",
    ...     unit="eV/atom",
    ... )
    >>> ModuleCard.from_json(card.to_json()) == card
    True
    """

    name: str
    """Name of the module, and of its directory in a store."""
    version: str = "1"
    """Version of the module, as in the reference ``store:name@version``."""
    backbone: str
    """Name of the backbone plugin."""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """Constructor arguments of the backbone besides the graph settings."""
    graph: dict[str, Any]
    """Graph settings, as :meth:`matmosaic.graphs.GraphSettings.to_dict` gives them."""
    atom_table: dict[str, str] | None = None
    """``name`` and ``sha256`` of the table of element descriptors that the weights expect."""
    kind: Literal["full", "adapter"] = "full"
    """Whether the weights are a whole network or adapters alone, for the module named by ``base``."""
    base: str | None = None
    """sha256 of the weights that training started from; for adapters, of those that they work with."""
    base_reference: str = ""
    """Where the module that adapters are for may be found, such as ``"chgnet:0.3.0"``; left out of the file
    if empty."""
    adapter: dict[str, int] = field(default_factory=dict)
    """``reduction`` of the adapters in the network, as :func:`~matmosaic.backbones.insert_adapters` takes it;
    empty, and left out of the file, for a network without."""
    head: dict[str, Any] | None = None
    """Constructor arguments of the :class:`~matmosaic.backbones.MLP` that predicts from features; of each
    such head where there are several properties."""
    target: str
    """What the head predicts, such as ``"formation energy"``; of several properties all names."""
    unit: str
    """Unit of the target, such as ``"eV/atom"``; of several properties all units."""
    target_transform: dict[str, Any] = field(default_factory=_unscaled)
    """``name``, ``mean``, ``std`` of the transform to the learnt scale, and ``right_skewed``; not used
    where there are several properties."""
    properties: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``unit`` and ``target_transform`` of each property of a module that has a head, of the shape
    ``head``, for each of several; empty, and left out of the file, for a module of one."""
    n_train: int | None = None
    """Number of structures trained on."""
    dataset: dict[str, str | None] = field(default_factory=_no_dataset)
    """``name`` and ``doi`` of the data trained on."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Records of ``name``, ``value``, ``unit`` and ``split``."""
    license_code: str | None = None
    """SPDX identifier of the licence of the code that the weights need."""
    license_weights: str | None = None
    """SPDX identifier of the licence of the weights."""
    references: list[str] = field(default_factory=list)
    """DOIs of, or sentences about, what to cite."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``version``, ``sha256``, ``weight``, ``license_weights`` of the modules whose mean training
    started from; empty, and left out of the file, where it was one or none."""
    sha256: str | None = None
    """sha256 of the weights file; a :class:`PretrainedModule` fills it in."""
    format_version: int = FORMAT_VERSION
    """Version of the module format."""
    golden: list[dict[str, Any]] = field(default_factory=list)
    """Small crystals with the ``features`` and ``prediction`` that the module gave when it was made."""
    fingerprints: dict[str, Any] | list[str] = field(default_factory=list)
    """One-way hashes of the training structures, as
    :meth:`~matmosaic.modules.TrainingFingerprints.to_field` gives them; a list, empty or of hashes that know
    a crystal in one cell alone, on a card without."""
    created_with: str = __version__
    """Version of matmosaic that made the module."""

    def __post_init__(self) -> None:
        """Copy the values and check every field."""
        for item in fields(self):
            object.__setattr__(self, item.name, _plain(getattr(self, item.name)))
        check(self.to_dict(), card_schema(), f"The card of module {self.name!r}")
        check_module_name(self.name)
        self._check_properties()
        self._check_adapter()

    def __hash__(self) -> int:
        """Hash the card's text, its values being unhashable."""
        return hash(self.to_json())

    def _check_properties(self) -> None:
        """Raise ModuleFormatError for properties that cannot be told apart, or that nothing predicts."""
        names = [one["name"] for one in self.properties]
        if len(set(names)) < len(names) or "" in names:
            raise ModuleFormatError(
                f"The card of module {self.name!r}: all 'properties' need names, all different. Got {names}."
            )
        if names and (self.head is None or self.head.get("n_out", 1) != 1):
            raise ModuleFormatError(
                f"The card of module {self.name!r}: with 'properties', 'head' must describe heads of one "
                f"output each. Got {self.head}."
            )

    def _check_adapter(self) -> None:
        """Raise ModuleFormatError for adapters of which it is not said what they are, or what for."""
        if self.kind == "adapter" and not (self.base and self.adapter):
            raise ModuleFormatError(
                f"The card of module {self.name!r}: of kind 'adapter', it must say in 'adapter' what they "
                f"are, and in 'base' for which weights. Got adapter={self.adapter}, base={self.base!r}."
            )

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """``name``, ``unit`` and ``target_transform`` of each property that the module predicts."""
        own = {"name": self.target, "unit": self.unit, "target_transform": self.target_transform}
        return _plain(self.properties or [own])

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict of JSON values that may be changed freely."""
        values = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        return {name: value for name, value in values.items() if value or name not in OPTIONAL}

    def to_json(self) -> str:
        """Return the card as JSON text, one line per field."""
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for name, value in self.to_dict().items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "The card") -> ModuleCard:
        """Rebuild a card from :meth:`to_dict`, strictly.

        Parameters
        ----------
        values : mapping
            All fields of the card.
        source : str, default="The card"
            What error messages call the card, such as its path.

        Returns
        -------
        ModuleCard
            The card.

        Raises
        ------
        ModuleFormatError
            If a field is unknown, missing or of the wrong type, or if the card follows another
            version of the format.
        """
        values = _plain(values)
        version = values.get("format_version", FORMAT_VERSION) if isinstance(values, dict) else FORMAT_VERSION
        if version != FORMAT_VERSION:
            raise ModuleFormatError(
                f"{source}: field 'format_version' is {version!r}, and matmosaic {__version__} reads version "
                f"{FORMAT_VERSION}; upgrade matmosaic, or ask for the module in version {FORMAT_VERSION}."
            )
        check(values, card_schema(), source)
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "The card") -> ModuleCard:
        """Rebuild a card from :meth:`to_json`, strictly.

        Parameters
        ----------
        text : str or bytes
            JSON text.
        source : str, default="The card"
            What error messages call the card, such as its path.

        Returns
        -------
        ModuleCard
            The card.

        Raises
        ------
        ModuleFormatError
            If the text is no JSON, or as for :meth:`from_dict`.
        """
        return cls.from_dict(read_json(text, source=source), source=source)


def read_json(text: str | bytes, *, source: str) -> Any:
    """Return the values of JSON text, strictly: no NaN, no infinity, no field twice, no deep nesting."""
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        _check_depth(values)
        return values
    except (ValueError, RecursionError) as error:
        raise ModuleFormatError(
            f"{source} is not readable JSON ({error}); restore it from its origin."
        ) from error


def _plain(value: Any) -> Any:
    """Copy a value, with tuples as lists and numpy numbers as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"fields given twice: {sorted({name for name in names if names.count(name) > 1})}")
    return values


def _check_depth(values: Any) -> None:
    """Raise ValueError for values within values that what reads them, by recursion, cannot follow."""
    level = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"values are nested more than {_MAX_DEPTH} deep")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
