"""Featurizers among the modules of a mixture: what is known of each, and what is saved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from matmosaic.backbones import Backbone
from matmosaic.exceptions import InvalidParameterError, ModuleFormatError
from matmosaic.featurizers import Featurizer, featurizer_reference, load_featurizer
from matmosaic.learning.featurized import FeatureExpert
from matmosaic.modules import ModuleCard, PretrainedModule
from matmosaic.modules._card_schema import TEXT, nullable, record
from matmosaic.modules._schema import check

#: What references to featurizers begin with.
PREFIX = "featurizer:"

_SCHEMA = record(featurizer=TEXT, identity=TEXT, reference=nullable(TEXT))


@dataclass(frozen=True)
class FeaturizerCard:
    """What a mixture keeps of a featurizer, as a module's card of a module."""

    featurizer: str
    """Its name: that of its reference, or of its class."""
    identity: str
    """What it computes; see :meth:`~matmosaic.featurizers.Featurizer.identity`."""
    reference: str | None = None
    """What loads it; None if nobody has looked for it."""

    @property
    def name(self) -> str:
        """Name of the featurizer."""
        return self.featurizer

    @property
    def sha256(self) -> str:
        """Hash of the identity, in hexadecimal digits."""
        return hashlib.sha256(self.identity.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return asdict(self)

    def load(self) -> Featurizer:
        """Load the featurizer, if it computes what it did.

        Raises
        ------
        UnknownNameError, PluginError
            If it is not installed, or broken.
        ModuleFormatError
            If the installed one computes something else.
        """
        found = load_featurizer(str(self.reference))
        if found.identity() != self.identity:
            raise ModuleFormatError(
                f"The estimator was fitted to features of {self.identity}, but {self.reference!r} is now "
                f"{found.identity()}. Install the version of its plugin that was used, or fit again."
            )
        return found


@dataclass(frozen=True, eq=False)
class FeaturizerSource:
    """A featurizer where the modules of a mixture are asked for networks and frozen features."""

    featurizer: Featurizer
    """What computes the features."""
    card: FeaturizerCard
    """What is known of it."""
    expert: FeatureExpert | None = None
    """With what was read off training rows, once that happened."""

    @classmethod
    def of(cls, given: Any) -> FeaturizerSource:
        """Return the source that a reference or a featurizer stands for."""
        featurizer = load_featurizer(given)
        reference = given if isinstance(given, str) else None
        name = reference.removeprefix(PREFIX) if reference else type(featurizer).__name__
        return cls(featurizer, FeaturizerCard(name, featurizer.identity(), reference))

    def build_backbone(self) -> FeatureExpert:
        """Return the expert with what was read off training rows, or a new one."""
        return FeatureExpert(self.featurizer) if self.expert is None else self.expert

    def features(self, X: Any, **_: Any) -> np.ndarray:
        """Return imputed and standardised features of structures (n_structures, n_features)."""
        return self.build_backbone().features(X)


Source: TypeAlias = "PretrainedModule | FeaturizerSource"
Card: TypeAlias = "ModuleCard | FeaturizerCard"


def with_expert(source: Source, expert: Backbone) -> Source:
    """Return a featurizer's source with its expert, which knows the training rows; a module as it is."""
    if isinstance(source, FeaturizerSource) and isinstance(expert, FeatureExpert):
        return replace(source, expert=expert)
    return source


def card_from_dict(values: Mapping[str, Any], *, source: str = "a card") -> Card:
    """Return the card, of a module or a featurizer, that ``to_dict`` gave."""
    if not isinstance(values, Mapping) or "featurizer" not in values:
        return ModuleCard.from_dict(values, source=source)
    check(values, _SCHEMA, source)
    return FeaturizerCard(**values)


def reference_to_save(featurizer: Featurizer) -> str:
    """Return what a saved estimator loads a featurizer by.

    Raises
    ------
    InvalidParameterError
        If there is nothing.
    """
    reference = featurizer_reference(featurizer)
    if reference is None:
        raise InvalidParameterError(
            f"{featurizer!r} cannot be saved: no installed plugin yields this featurizer, so nobody could "
            "load it. Register a function that returns it, in the entry-point group 'matmosaic.featurizers' "
            "of a package of yours, or pickle the estimator for yourself."
        )
    return reference
