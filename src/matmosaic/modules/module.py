"""A pre-trained module: a card and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matmosaic.exceptions import CorruptModuleError, MatmosaicError
from matmosaic.modules import _golden
from matmosaic.modules._files import CARD_FILE, WEIGHTS_FILE, read_module, write_files
from matmosaic.modules._outputs import Outputs
from matmosaic.modules._unchanging import Unchanging
from matmosaic.modules.card import ModuleCard

if TYPE_CHECKING:
    from torch import Tensor

    from matmosaic.backbones import MLP, Backbone, PropertyHeads
    from matmosaic.modules.store import ModuleStore

# torch is imported inside functions: cards and stores are read without it.

#: Largest deviation of golden outputs, relative to their scale, that rounding may explain.
GOLDEN_TOLERANCE = 1e-4

# Cards, by hash of their text, whose golden outputs this process has already reproduced.
_verified: set[int] = set()


class PretrainedModule(Outputs, Unchanging):
    """A graph network trained on some property, ready to be reused.

    A module never changes: scikit-learn's ``clone`` returns the same object, and what differs is
    another module. On disk it is a directory with ``card.json`` and ``weights.safetensors``.

    Parameters
    ----------
    card : ModuleCard
        What the weights are. Its ``sha256`` is filled in if it is None.
    weights : mapping of str to Tensor
        State dict of the backbone with the prefix ``backbone.`` and, if the card has a head, of
        that head with the prefix ``head.``; it is copied. If the card is of kind ``adapter``, those of
        the backbone are its adapters' alone, with the prefix ``backbone.adapters.``.
    base : PretrainedModule, optional
        The module that adapters are for; if it is not given, it is looked for when it is needed.

    Raises
    ------
    CorruptModuleError
        If the card's ``sha256`` is that of other weights.
    ArchitectureMismatchError
        If a weight belongs neither to the backbone nor to the head of the card, or if ``base`` has other
        weights than the card says.

    See Also
    --------
    matmosaic.load_module : Load a module by reference, such as ``"bundled:emt-eform"``.
    """

    _card: ModuleCard
    _weights: Mapping[str, Tensor]
    _base: PretrainedModule | None
    _siblings: ModuleStore | None

    def __init__(
        self, card: ModuleCard, weights: Mapping[str, Tensor], *, base: PretrainedModule | None = None
    ) -> None:
        from matmosaic.modules._weights import copy_weights, sha256, to_bytes

        weights = copy_weights(weights)
        digest = sha256(to_bytes(weights))
        if card.sha256 not in (None, digest):
            raise CorruptModuleError(
                f"The card of {card.name!r} has sha256 {card.sha256}, but these weights have {digest}; "
                "for new weights pass a card with sha256=None."
            )
        self._set(replace(card, sha256=digest), weights, base)

    @classmethod
    def _trusted(
        cls,
        card: ModuleCard,
        weights: Mapping[str, Tensor],
        base: PretrainedModule | None = None,
        siblings: ModuleStore | None = None,
    ) -> PretrainedModule:
        """Make a module of weights whose checksum has been compared already."""
        module = cls.__new__(cls)
        module._set(card, weights, base, siblings)
        return module

    def _set(
        self,
        card: ModuleCard,
        weights: Mapping[str, Tensor],
        base: PretrainedModule | None,
        siblings: ModuleStore | None = None,
    ) -> None:
        from matmosaic.modules._base import check_base
        from matmosaic.modules._weights import check_prefixes

        check_prefixes(card, weights)
        object.__setattr__(self, "_card", card)
        object.__setattr__(self, "_weights", MappingProxyType(dict(weights)))
        object.__setattr__(self, "_base", None if base is None else check_base(card, base))
        object.__setattr__(self, "_siblings", siblings)

    @property
    def card(self) -> ModuleCard:
        """What the weights are."""
        return self._card

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Read-only mapping of names with the prefixes ``backbone.`` and ``head.`` to tensors."""
        return self._weights

    @property
    def base(self) -> PretrainedModule | None:
        """The module that adapters are for, looked for where it is needed first; None for a whole network.

        Raises UnknownNameError if it is not found.
        """
        if self.card.kind == "adapter" and self._base is None:
            from matmosaic.modules._base import find_base

            object.__setattr__(self, "_base", find_base(self.card, self._siblings))
        return self._base

    def build_backbone(self) -> Backbone:
        """Return a new backbone with the module's weights, on the CPU, in evaluation mode.

        Returns
        -------
        Backbone
            Of the class that the plugin named by the card provides, with adapters if the card has them.

        Raises
        ------
        UnknownNameError
            If no installed distribution provides that backbone, or the base of adapters is not found.
        ModuleFormatError
            If the card's options or graph settings are not those of the backbone.
        ArchitectureMismatchError
            If the weights or the table of element descriptors do not fit it.
        """
        from matmosaic.modules._networks import build_backbone

        return build_backbone(self.card, self.weights, self.base)

    def build_head(self) -> MLP | PropertyHeads | None:
        """Return a new head with the module's weights, or None if the card has no head.

        Returns
        -------
        MLP, PropertyHeads or None
            Maps features (n_structures, n_features) to standardised targets (n_structures, n_out).

        Raises
        ------
        ModuleFormatError
            If the card's ``head`` holds no options of a head.
        ArchitectureMismatchError
            If the weights do not fit it.
        """
        from matmosaic.modules._networks import build_head

        return build_head(self.card, self.weights)

    def with_golden(
        self, structures: Any = None, *, elements: Iterable[str] | None = None
    ) -> PretrainedModule:
        """Return the same module with new golden outputs on its card.

        Parameters
        ----------
        structures : structures, optional
            A few small, ordered crystals; three built-in ones by default.
        elements : iterable of str, optional
            Symbols of elements that the built-in crystals may be made of, for a module that was
            trained on few.

        Returns
        -------
        PretrainedModule
            With the ``features`` and ``prediction`` of each crystal in ``card.golden``.
        """
        crystals = _golden.small_crystals(elements) if structures is None else _golden.to_compact(structures)
        card = replace(self.card, golden=self._golden_outputs(crystals))
        return PretrainedModule._trusted(card, self.weights, self._base, self._siblings)

    def with_fingerprints(self, X: Any, *, complete: bool = True) -> PretrainedModule:
        """Return the same module with one-way hashes of training structures on its card.

        Parameters
        ----------
        X : structures, length n_structures
            What it was trained on; they are added to those that the card has already.
        complete : bool, default=True
            Whether these are all, with those of the modules that training started from.

        Returns
        -------
        PretrainedModule
            Of the same weights; :meth:`save` it with ``overwrite=True`` to replace the one without.

        Raises
        ------
        InvalidStructuresError
            If a row cannot be used.
        """
        from matmosaic.modules.fingerprints import TrainingFingerprints

        known = TrainingFingerprints.on(self.card) or TrainingFingerprints()
        seen = TrainingFingerprints.joined([known, TrainingFingerprints.of(X)])
        card = replace(self.card, fingerprints=replace(seen, complete=complete).to_field())
        return PretrainedModule._trusted(card, self.weights, self._base, self._siblings)

    def verify(self) -> float:
        """Recompute the checksum and the golden outputs.

        Returns
        -------
        float
            Largest deviation from the golden outputs, relative to their scale; 0 if there are none.

        Raises
        ------
        CorruptModuleError
            If the checksum differs or a golden output deviates by more than 1e-4.
        """
        from matmosaic.modules._weights import check_sha256, to_bytes

        check_sha256(self.card.sha256, to_bytes(self.weights), source=f"Module {self.card.name!r}")
        return self._verify_golden()

    def _verify_golden(self) -> float:
        expected = self.card.golden
        if not expected:
            return 0.0
        got = self._golden_outputs([item["structure"] for item in expected])
        scale = [one["target_transform"]["std"] for one in self.card.outputs]
        largest = max(_golden.deviation(*pair, scale=scale) for pair in zip(expected, got, strict=True))
        if largest > GOLDEN_TOLERANCE:
            raise CorruptModuleError(
                f"Module {self.card.name!r} no longer gives its golden outputs: expected them within "
                f"{GOLDEN_TOLERANCE:g} of their scale, got a deviation of {largest:.2g}. Its card was "
                f"altered, or backbone {self.card.backbone!r} changed; restore the card, or use the backbone "
                f"as it was with matmosaic {self.card.created_with}."
            )
        _verified.add(hash(self.card))
        return largest

    def save(self, directory: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the module into a directory, all or nothing.

        Parameters
        ----------
        directory : str or path-like
            Directory to create; a path to it is a reference to the module.
        overwrite : bool, default=False
            Replace a module that is there.

        Raises
        ------
        StoreError
            If the directory holds something else, or without ``overwrite`` a module, or if
            writing fails.
        """
        write_files(Path(directory).absolute(), self.to_files(), overwrite=overwrite)

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the module's files by name, as :meth:`save` writes them."""
        from matmosaic.modules._weights import sha256, to_bytes

        weights = to_bytes(self.weights)
        card = replace(self.card, sha256=sha256(weights))
        return {CARD_FILE: card.to_json().encode(), WEIGHTS_FILE: weights}

    @classmethod
    def load(
        cls,
        directory: str | PathLike[str],
        *,
        verify: bool = True,
        base: PretrainedModule | str | PathLike[str] | None = None,
    ) -> PretrainedModule:
        """Load a module from its directory.

        Parameters
        ----------
        directory : str or path-like
            Directory with ``card.json`` and ``weights.safetensors``.
        verify : bool, default=True
            Recompute the golden outputs, once per process and module. The checksum is always
            compared, before anything is parsed.
        base : PretrainedModule, str or path-like, optional
            The module that adapters are for, or a reference to it; by default it is looked for by the
            card's ``base_reference``, then beside ``directory``, and among those that ship with matmosaic.

        Returns
        -------
        PretrainedModule
            The module.

        Raises
        ------
        UnknownNameError
            If there is no such directory.
        ModuleFormatError
            If it holds no module, or a card that cannot be read.
        CorruptModuleError
            If the weights are truncated or altered, or the golden outputs are not reproduced.
        """
        from matmosaic.modules.directory_store import DirectoryStore
        from matmosaic.modules.references import load_module

        if base is not None:
            base = load_module(base)
        path = Path(directory).absolute()
        siblings = DirectoryStore(path.parent)
        return cls.from_files(
            read_module(path), source=Path(directory), verify=verify, base=base, siblings=siblings
        )

    @classmethod
    def from_files(
        cls,
        contents: Mapping[str, bytes],
        *,
        source: str | PathLike[str],
        verify: bool = True,
        base: PretrainedModule | None = None,
        siblings: ModuleStore | None = None,
    ) -> PretrainedModule:
        """Make a module of the content of its files, as :meth:`to_files` gives it.

        Parameters
        ----------
        contents : mapping of str to bytes
            Content of ``card.json`` and ``weights.safetensors`` by file name.
        source : str or path-like
            Where they come from, for error messages.
        verify : bool, default=True
            As for :meth:`load`, which says what is raised.
        base : PretrainedModule, optional
            The module that adapters are for.
        siblings : ModuleStore, optional
            The store that they come from, in which ``base`` is looked for if it is not given.

        Returns
        -------
        PretrainedModule
            The module.
        """
        from matmosaic.modules._weights import check_sha256, from_bytes

        weights_path = str(Path(source) / WEIGHTS_FILE)
        card = ModuleCard.from_json(contents[CARD_FILE], source=str(Path(source) / CARD_FILE))
        check_sha256(card.sha256, contents[WEIGHTS_FILE], source=weights_path)
        weights = from_bytes(contents[WEIGHTS_FILE], source=weights_path)
        module = cls._trusted(card, weights, base, siblings)
        if verify and hash(card) not in _verified:
            module._verify_golden()
        return module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PretrainedModule) and self.card == other.card

    def __hash__(self) -> int:
        return hash(self.card)

    def __reduce__(self) -> tuple[Any, ...]:
        # The base comes along, the store that it may be in stays: nobody may have it elsewhere.
        with suppress(MatmosaicError):
            _ = self.base
        return PretrainedModule._trusted, (self.card, dict(self.weights), self._base)

    def __repr__(self) -> str:
        card = self.card
        facts = {"backbone": card.backbone, "target": card.target, "unit": card.unit}
        shown = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        return f"PretrainedModule({card.name!r}, {shown}, sha256='{str(card.sha256)[:8]}...')"
