"""Average the parameters of modules that were started from one base.

Networks that were fine-tuned from the same weights lie close enough together that their mean is a network
of use; of any others it is none (Wortsman et al., arXiv:2203.05482). So what is averaged must agree in
everything but the values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from matmosaic.backbones import Backbone
from matmosaic.exceptions import ArchitectureMismatchError
from matmosaic.learning.dataset import TableDataset
from matmosaic.modules import ModuleCard, PretrainedModule, TrainingFingerprints
from matmosaic.modules.licenses import most_restrictive

__all__ = ["check_mergeable", "merge_modules", "reestimate_statistics"]

HEAD = "head."
# What the means of the modules' statistics are worth beside those of a few structures.
PRIOR_STRUCTURES = 100
REMEDY = (
    "Narrow 'modules' to those of one base and architecture, or use combine='features', which weighs what "
    "the networks give instead of their parameters."
)


def _common_base(cards: Sequence[ModuleCard]) -> str | None:
    """Return the checksum of the weights that all modules were started from, or are."""
    known = [one for card in cards for one in (card.base, card.sha256) if one]
    return next((base for base in known if all(base in (card.base, card.sha256) for card in cards)), None)


def _base(card: ModuleCard) -> str:
    return card.base[:8] if card.base else f"none, {str(card.sha256)[:8]} itself"


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True)


# What must agree, and how it is told.
ASPECTS: dict[str, Callable[[ModuleCard], str]] = {
    "backbone": lambda card: card.backbone,
    "backbone_options": lambda card: _plain(card.backbone_options),
    "graph": lambda card: _plain(card.graph),
    "atom_table": lambda card: _plain(card.atom_table),
    "kind": lambda card: card.kind,
    "adapter": lambda card: _plain(card.adapter),
}


def check_mergeable(modules: Sequence[PretrainedModule], names: Sequence[str]) -> None:
    """Check that the parameters of modules may be averaged.

    Parameters
    ----------
    modules : sequence of PretrainedModule
        All of one backbone, graph settings, table of elements, kind and ``base``. The base itself may be
        among them.
    names : sequence of str
        What they are called in messages.

    Raises
    ------
    ArchitectureMismatchError
        Names what differs, and which modules have which.
    """
    cards = [module.card for module in modules]
    told = {aspect: [tell(card) for card in cards] for aspect, tell in ASPECTS.items()}
    lines = [_line(aspect, values, names) for aspect, values in told.items() if len(set(values)) > 1]
    if _common_base(cards) is None:
        lines.append(_line("base", list(map(_base, cards)), names))
    lines = lines or _shape_lines(modules, names)
    if lines:
        listing = "\n".join(lines)
        raise ArchitectureMismatchError(
            f"'modules': the parameters of these modules cannot be averaged, as they differ:\n{listing}\n"
            f"{REMEDY}"
        )


def _line(aspect: str, values: Sequence[str], names: Sequence[str]) -> str:
    """Return text such as "- kind: full (a, b); adapter (c)"."""
    groups: dict[str, list[str]] = {}
    for value, name in zip(values, names, strict=True):
        groups.setdefault(value, []).append(name)
    return f"- {aspect}: " + "; ".join(f"{value} ({', '.join(some)})" for value, some in groups.items())


def _shape_lines(modules: Sequence[PretrainedModule], names: Sequence[str]) -> list[str]:
    """Return a line for each tensor whose shape or type is not that of all modules."""
    told = [
        {name: f"{list(one.shape)} {one.dtype}" for name, one in _network(module).items()}
        for module in modules
    ]
    tensors = list(dict.fromkeys(name for one in told for name in one))
    values = {name: [one.get(name, "missing") for one in told] for name in tensors}
    return [_line(name, some, names) for name, some in values.items() if len(set(some)) > 1]


def _network(module: PretrainedModule) -> dict[str, Tensor]:
    """Return the weights without those of the head."""
    return {name: values for name, values in module.weights.items() if not name.startswith(HEAD)}


def merge_modules(
    modules: Sequence[PretrainedModule], weights: Sequence[float], *, names: Sequence[str]
) -> PretrainedModule:
    """Return the weighted mean of modules, without a head.

    Integers, such as the numbers of batches that statistics were averaged over, are those of the module
    with the largest weight, the first of several. Running statistics are averaged as all numbers are; see
    :func:`reestimate_statistics`.

    Parameters
    ----------
    modules : sequence of PretrainedModule
        Those of weight 0 do not count.
    weights : sequence of float
        One for each module, not negative, of sum 1.
    names : sequence of str
        What they are called in messages and on the card.

    Returns
    -------
    PretrainedModule
        Whose card names its sources and their weights; its licences are the most restrictive of theirs.

    Raises
    ------
    ArchitectureMismatchError
        As :func:`check_mergeable` raises it.
    """
    used = [one for one in zip(modules, weights, names, strict=True) if one[1] > 0]
    sources, shares, called = (list(column) for column in zip(*used, strict=True))
    check_mergeable(sources, called)
    card = _card([module.card for module in sources], shares, called)
    return PretrainedModule(card, _mean(list(map(_network, sources)), shares), base=sources[0].base)


def _mean(networks: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    heaviest = networks[max(range(len(shares)), key=shares.__getitem__)]

    def mean(name: str) -> Tensor:
        if not heaviest[name].is_floating_point():
            return heaviest[name]
        # In double precision, so that the mean of equal numbers is that number.
        total = sum(share * one[name].double() for share, one in zip(shares, networks, strict=True))
        return torch.as_tensor(total).to(heaviest[name].dtype)

    return {name: mean(name) for name in heaviest}


def _card(cards: Sequence[ModuleCard], shares: Sequence[float], names: Sequence[str]) -> ModuleCard:
    first = cards[0]
    sources = [
        {
            "name": name,
            "version": card.version,
            "sha256": card.sha256,
            "weight": float(share),
            "license_weights": card.license_weights,
        }
        for card, share, name in zip(cards, shares, names, strict=True)
    ]
    return ModuleCard(
        name="composed",
        backbone=first.backbone,
        backbone_options=first.backbone_options,
        graph=first.graph,
        atom_table=first.atom_table,
        kind=first.kind,
        base=_common_base(cards),
        base_reference=first.base_reference,
        adapter=first.adapter,
        target=", ".join(dict.fromkeys(card.target for card in cards)),
        unit=", ".join(dict.fromkeys(card.unit for card in cards)),
        license_code=most_restrictive(card.license_code for card in cards),
        license_weights=most_restrictive(card.license_weights for card in cards),
        references=list(dict.fromkeys(one for card in cards for one in card.references)),
        fingerprints=TrainingFingerprints.joined(map(TrainingFingerprints.on, cards)).to_field(),
        sources=sources,
    )


@torch.no_grad()
def reestimate_statistics(
    backbone: Backbone, rows: TableDataset, *, batch_size: int, prior: int = PRIOR_STRUCTURES
) -> bool:
    """Move the running statistics of batch normalisation to those of some structures.

    Averaged parameters give other activations than any of the networks that they come from, and the means
    of those networks' statistics do not fit them. In one pass, each layer's statistics are estimated as the
    means of those of the batches, whatever momentum the layer has; batches are as equal as can be. If all
    rows fit into one batch, they are those of all rows. Of few structures they are poor, so they replace the
    old ones by a share of n / (n + ``prior``).

    Parameters
    ----------
    backbone : Backbone
        Changed in place, and left in evaluation mode; every other layer stays in it throughout.
    rows : TableDataset
        Of graphs that no trunk was run on; each counts once.
    batch_size : int
        The most structures in a batch. Batches take every n-th row, so that the order of the rows matters
        little.
    prior : int, default=100
        Number of structures that the old statistics count as; 0 replaces them.

    Returns
    -------
    bool
        Whether the backbone has any such layers; if not, no pass is made.

    References
    ----------
    Izmailov et al., arXiv:1803.05407, estimate them for the mean of one network's weights; Schneider et al.,
    arXiv:2006.16971, mix old and new ones by such a share.
    """
    norms: list[Any] = [part for part in backbone.modules() if _has_statistics(part)]
    n_batches = math.ceil(len(rows) / batch_size) if norms else 0
    backbone.eval()
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    with _cumulative(norms):
        for first in range(n_batches):
            backbone(rows.__getitems__(range(first, len(rows), n_batches))[0])
    kept = prior / (len(rows) + prior)
    for norm, (mean, variance) in zip(norms, before, strict=True):
        norm.running_mean.lerp_(mean, kept)
        norm.running_var.lerp_(variance, kept)
    return bool(norms)


def _has_statistics(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.track_running_stats


@contextmanager
def _cumulative(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let layers average the statistics of all batches from here on."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        nn.Module.train(norm, True)
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
