"""A fitted mixture as files.

``card.json`` says what was learnt, ``experts.json`` holds the cards of all modules, and
``weights.safetensors`` the network of the active experts and the arrays of the guard. The modules that a
simple answer reads are there as they were before training (``start.*``), and an estimator that was
trained from scratch with all its files (``scratch.*``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from matmosaic._version import __version__
from matmosaic.backbones import MLP, Backbone
from matmosaic.estimators._featurizers import (
    Card,
    FeaturizerCard,
    FeaturizerSource,
    Source,
    card_from_dict,
    reference_to_save,
)
from matmosaic.estimators._guard import MIXTURE, Answer, LinearAnswer
from matmosaic.estimators.persistence import (
    SavableRegressor,
    SavedFiles,
    from_files,
    plain,
    start_files,
    start_module,
    to_files,
)
from matmosaic.exceptions import ModuleFormatError
from matmosaic.learning import MixtureModel, TargetScale
from matmosaic.learning.aggregation import AGGREGATIONS, Aggregation, EnsembleHeads
from matmosaic.learning.baselines import LinearBaseline
from matmosaic.learning.featurized import FeatureExpert
from matmosaic.learning.gate import Gate
from matmosaic.modules import PretrainedModule
from matmosaic.modules._card_schema import FINGERPRINTS, NUMBER, SHA256, TEXT, array, nullable, record
from matmosaic.modules._files import CARD_FILE, EXPERTS_FILE, WEIGHTS_FILE
from matmosaic.modules._networks import build_backbone
from matmosaic.modules._schema import check
from matmosaic.modules._weights import check_sha256, copy_weights, fill, from_bytes, part, sha256, to_bytes
from matmosaic.modules.card import read_json

FORMAT = "matmosaic.mixture/1"
GUARD = "guard."
SCRATCH = "scratch."

_COUNT = {"type": "integer", "minimum": 0}
_AGGREGATION = record(
    name={"type": "string", "enum": sorted(AGGREGATIONS)},
    head_widths=array(_COUNT),
    width=nullable(_COUNT),
    projected=array(nullable(_COUNT)),
)
# Files of version 0.1 have one width for all experts.
_AGGREGATION["required"].remove("projected")
_SCHEMA = record(
    format={"type": "string", "const": FORMAT},
    target=TEXT,
    unit=TEXT,
    active=array(_COUNT),
    n_active={"type": "integer", "minimum": 1},
    aggregation=_AGGREGATION,
    trained=array(TEXT),
    scale=record(mean=NUMBER, std={"type": "number", "exclusiveMinimum": 0}),
    n_train=_COUNT,
    fingerprints=FINGERPRINTS,
    answer=TEXT,
    answer_modules=nullable(array(SHA256)),
    guard=nullable(array(TEXT)),
    sha256=SHA256,
    created_with=TEXT,
)


@dataclass(frozen=True, kw_only=True)
class MixtureCard:
    """What was learnt besides arrays."""

    target: str
    """What the labels were."""
    unit: str
    """Their unit."""
    active: list[int]
    """Numbers, among all modules, of the experts in the network."""
    n_active: int
    """How many of these the gate lets through."""
    aggregation: dict[str, Any]
    """Of what makes a prediction of their features: ``name``, ``head_widths``, and the ``width`` that all are
    mapped to, or in ``projected`` one for each, null where they are not."""
    trained: list[str]
    """Names of the experts' parameters that were trained, as in the weights file."""
    scale: TargetScale
    """Of the training labels."""
    n_train: int
    """Number of training rows."""
    fingerprints: dict[str, Any] | list[str]
    """One-way hashes of the training structures, as on the card of a module."""
    answer: str
    """Name of what predicts."""
    answer_modules: list[str] | None
    """sha256 of the modules, or of the identities of featurizers, that a linear answer reads; None for any
    other answer."""
    guard: list[str] | None
    """Names of the answers that were compared, the best first."""
    sha256: str
    """sha256 of the weights file."""
    created_with: str = __version__
    """Version of matmosaic that wrote the files."""

    def to_json(self) -> bytes:
        """Return the card as JSON text, one line per field."""
        scale = {"mean": self.scale.mean, "std": self.scale.std}
        values = {"format": FORMAT, **asdict(self), "scale": scale}
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value, default=plain)}" for name, value in values.items()
        ]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @classmethod
    def from_json(cls, text: bytes, *, source: str) -> MixtureCard:
        """Rebuild a card from :meth:`to_json`, strictly."""
        values = read_json(text, source=source)
        check(values, _SCHEMA, source)
        del values["format"]
        return cls(**{**values, "scale": TargetScale(**values["scale"])})


@dataclass(frozen=True)
class SavedMixture:
    """A mixture's files, their checksum compared and their cards parsed."""

    card: MixtureCard
    """What was learnt besides arrays."""
    modules: list[Card]
    """Cards of all modules and featurizers."""
    arrays: Mapping[str, Tensor]
    """Of the network and, with the prefix ``guard.``, of the guard."""
    files: SavedFiles
    """All files."""

    @classmethod
    def read(cls, files: SavedFiles) -> SavedMixture:
        """Check and parse the files.

        Raises
        ------
        ModuleFormatError
            If a file is missing, or a card cannot be read.
        CorruptModuleError
            If the weights are truncated or altered.
        """
        source = {name: str(files.source / name) for name in (CARD_FILE, EXPERTS_FILE, WEIGHTS_FILE)}
        card = MixtureCard.from_json(files[CARD_FILE], source=source[CARD_FILE])
        cards = read_json(files[EXPERTS_FILE], source=source[EXPERTS_FILE])
        modules = [card_from_dict(one, source=source[EXPERTS_FILE]) for one in cards]
        check_sha256(card.sha256, files[WEIGHTS_FILE], source=source[WEIGHTS_FILE])
        return cls(card, modules, from_bytes(files[WEIGHTS_FILE], source=source[WEIGHTS_FILE]), files)

    def model(self, names: Sequence[str], **options: Any) -> MixtureModel:
        """Return the network; options are those of :class:`MixtureModel` that only training needs."""
        network = {name: values for name, values in self.arrays.items() if not name.startswith(GUARD)}
        experts = [
            _expert(self.modules[number], _of_expert(network, place))
            for place, number in enumerate(self.card.active)
        ]
        # New heads draw random numbers, which are the caller's.
        with torch.random.fork_rng(devices=[]):
            gate = Gate(torch.ones(len(experts)), self.card.n_active)
            aggregation = _aggregation([one.n_features for one in experts], **self.card.aggregation)
        active = [names[number] for number in self.card.active]
        model = MixtureModel(experts, active, gate, aggregation, **options)
        fill(model, network, what=f"The mixture in {self.files.source}")
        _set_trained(model, self.card.trained)
        return model

    def guard(self) -> pd.DataFrame | None:
        """Return the errors of all answers, as they were after training."""
        if self.card.guard is None:
            return None
        index = pd.Index(self.card.guard, name="answer")
        return pd.DataFrame({"valid_mae": self.arrays[f"{GUARD}valid_mae"].numpy()}, index=index)

    def fallback(self, *, n_jobs: int | None, memory: Any, device: str) -> Answer | None:
        """Return what predicts in place of the mixture, or None."""
        if self.card.answer == MIXTURE:
            return None
        if self.card.answer_modules is None:
            return from_files(self.files.part(SCRATCH), device=device)
        arrays = {name: values.numpy() for name, values in part(self.arrays, GUARD).items()}
        modules = [self._start(one) for one in self.card.answer_modules]
        baseline = LinearBaseline(
            self.card.answer,
            arrays["feature_coef"],
            arrays["prediction_coef"],
            float(arrays["intercept"]),
        )
        return LinearAnswer(baseline, modules, n_jobs=n_jobs, memory=memory)

    def _start(self, sha256: str) -> Source:
        """Return what a linear answer reads as it was before training."""
        for card in self.modules:
            if isinstance(card, FeaturizerCard) and card.sha256 == sha256:
                expert = _expert(card, part(self.arrays, f"{GUARD}{sha256}."))
                return FeaturizerSource(expert.featurizer, card, expert)
        return start_module(self.files, sha256)


def mixture_files(
    model: MixtureModel,
    *,
    modules: Sequence[Card],
    guard: pd.DataFrame | None,
    fallback: Answer | None,
    **learnt: Any,
) -> dict[str, bytes]:
    """Return the content of a mixture's files by name.

    Parameters
    ----------
    model : MixtureModel
        The network of the active experts.
    modules : sequence of ModuleCard and FeaturizerCard
        Cards of all modules and featurizers.
    guard : DataFrame or None
        Errors of all answers.
    fallback : Answer or None
        What predicts in place of the mixture.
    **learnt
        The other fields of :class:`MixtureCard`, those that follow from the above excepted.

    Returns
    -------
    dict of str to bytes
        What :meth:`SavedMixture.read` reads.
    """
    linear = fallback if isinstance(fallback, LinearAnswer) else None
    needed = [*model.backbones, *(one.build_backbone() for one in _featurizers(linear))]
    weights = to_bytes(copy_weights(model.state_dict() | _guard_arrays(guard, linear)))
    card = MixtureCard(
        n_active=model.gate.n_active,
        aggregation=_aggregation_options(model.aggregation),
        trained=[name for name, one in model.experts.named_parameters() if one.requires_grad],
        answer_modules=None if linear is None else [str(one.card.sha256) for one in linear.modules],
        guard=None if guard is None else list(guard.index),
        sha256=sha256(weights),
        **learnt,
    )
    contents = {
        CARD_FILE: card.to_json(),
        EXPERTS_FILE: json.dumps([one.to_dict() for one in _loadable(modules, needed)], indent=1).encode(),
        WEIGHTS_FILE: weights,
    }
    if linear is not None:
        contents |= start_files(one for one in linear.modules if isinstance(one, PretrainedModule))
    elif isinstance(fallback, SavableRegressor):
        scratch = to_files(fallback, target=card.target, unit=card.unit)
        contents |= {f"{SCRATCH}{name}": content for name, content in scratch.items()}
    return contents


def _featurizers(linear: LinearAnswer | None) -> list[FeaturizerSource]:
    return [] if linear is None else [one for one in linear.modules if isinstance(one, FeaturizerSource)]


def _loadable(cards: Sequence[Card], needed: Sequence[Backbone]) -> list[Card]:
    """Return the cards, with references of those featurizers that a loaded mixture needs."""
    given = [one.featurizer for one in needed if isinstance(one, FeatureExpert)]
    featurizers = {one.identity(): one for one in given}

    def loadable(card: Card) -> Card:
        if not isinstance(card, FeaturizerCard) or card.identity not in featurizers:
            return card
        return replace(card, reference=reference_to_save(featurizers[card.identity]))

    return list(map(loadable, cards))


def _guard_arrays(guard: pd.DataFrame | None, linear: LinearAnswer | None) -> dict[str, Tensor]:
    arrays: dict[str, Any] = {} if guard is None else {"valid_mae": guard["valid_mae"].to_numpy()}
    if linear is not None:
        names = ("feature_coef", "prediction_coef", "intercept")
        arrays |= {name: getattr(linear.baseline, name) for name in names}
    for source in _featurizers(linear):
        state = source.build_backbone().state_dict()
        arrays |= {f"{source.card.sha256}.backbone.{name}": value.numpy() for name, value in state.items()}
    return {f"{GUARD}{name}": torch.tensor(values, dtype=torch.float64) for name, values in arrays.items()}


def _aggregation_options(aggregation: Aggregation) -> dict[str, Any]:
    head = cast("MLP", aggregation.heads[0] if isinstance(aggregation, EnsembleHeads) else aggregation.head)
    (name,) = (name for name, kind in AGGREGATIONS.items() if type(aggregation) is kind)
    mapped = {"projected": aggregation.projected} if any(aggregation.projected) else {}
    return {"name": name, "head_widths": list(head.widths), "width": None, **mapped}


def _aggregation(
    widths: Sequence[int],
    *,
    name: str,
    head_widths: Sequence[int],
    width: int | None,
    projected: Sequence[int | None] | None = None,
) -> Aggregation:
    return AGGREGATIONS[name](widths, head_widths, projected or [width] * len(widths))


def _expert(card: Card, weights: Mapping[str, Tensor]) -> Any:
    """Return the network of a module, or the expert of a featurizer, with weights as a module names them."""
    if not isinstance(card, FeaturizerCard):
        return build_backbone(card, weights)
    expert = FeatureExpert(card.load())
    own = {name: value.to(torch.get_default_dtype()) for name, value in part(weights, "backbone.").items()}
    fill(expert, own, what=f"The featurizer {card.name!r}")
    return expert


def _of_expert(network: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """Return the weights of one expert as a module's weights are named."""
    return {f"backbone.{name}": value for name, value in part(network, f"experts.{place}.").items()}


def _set_trained(model: MixtureModel, trained: Sequence[str]) -> None:
    parameters = dict(model.experts.named_parameters())
    unknown = sorted(set(trained) - set(parameters))
    if unknown:
        raise ModuleFormatError(f"The mixture has no parameters {unknown[:5]}, which its card calls trained.")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
