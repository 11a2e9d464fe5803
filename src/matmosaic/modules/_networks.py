"""Build the networks that a card describes, and fill in their weights strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from matmosaic import plugins
from matmosaic.backbones import MLP, PropertyHeads, insert_adapters
from matmosaic.backbones.making import make_backbone
from matmosaic.exceptions import ArchitectureMismatchError, InvalidParameterError, ModuleFormatError
from matmosaic.graphs import GraphSettings
from matmosaic.modules._weights import fill, part
from matmosaic.modules.card import ModuleCard

if TYPE_CHECKING:
    from torch import Tensor

    from matmosaic.backbones import Backbone
    from matmosaic.modules.module import PretrainedModule


def build_backbone(
    card: ModuleCard, weights: Mapping[str, Tensor], base: PretrainedModule | None = None
) -> Backbone:
    """Return the backbone of a card with its weights, in evaluation mode.

    Parameters
    ----------
    card : ModuleCard
        Of a whole network or of adapters.
    weights : mapping of str to Tensor
        Those that the card's own module has.
    base : PretrainedModule, optional
        What has all weights but those of adapters; None if ``weights`` are the whole network's.
    """
    backbone_class = plugins.load("backbones", card.backbone)
    _check_atom_table(card, getattr(backbone_class, "atom_table", None))
    with _building(card, "'backbone_options' or 'graph'"):
        settings = GraphSettings.from_dict(card.graph)
        backbone: Backbone = make_backbone(card.backbone, card.backbone_options, graph_settings=settings)
        if card.adapter:
            backbone = insert_adapters(backbone, **card.adapter)
    own = part(weights, "backbone.")
    if base is not None:
        own |= _without_adapters(base)
    what = f"Backbone {card.backbone!r} of module {card.name!r}, built with {card.backbone_options},"
    fill(backbone, own, what=what)
    return backbone.eval()


def _without_adapters(base: PretrainedModule) -> dict[str, Tensor]:
    """Return the weights of a module's backbone as a network with adapters names them."""
    prefix = "backbone.base." if base.card.adapter else "backbone."
    return {f"base.{name}": value for name, value in part(base.weights, prefix).items()}


def build_head(card: ModuleCard, weights: Mapping[str, Tensor]) -> MLP | PropertyHeads | None:
    """Return the head of a card, or its heads, with the weights, in evaluation mode, or None."""
    if card.head is None:
        return None
    head: MLP | PropertyHeads
    with _building(card, "'head'"):
        head = (
            PropertyHeads([MLP(**card.head) for _ in card.properties])
            if card.properties
            else MLP(**card.head)
        )
    fill(head, part(weights, "head."), what=f"The head of module {card.name!r}, built with {card.head},")
    return head.eval()


@contextmanager
def _building(card: ModuleCard, what: str) -> Iterator[None]:
    """Build a network without touching the caller's random numbers, blaming the card if it fails."""
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except (TypeError, InvalidParameterError) as error:
        message = (
            f"The card of module {card.name!r} has options that nothing can be built with, in {what}: {error}"
        )
        raise ModuleFormatError(message) from error


def _check_atom_table(card: ModuleCard, got: dict[str, str] | None) -> None:
    if card.atom_table is not None and card.atom_table != got:
        raise ArchitectureMismatchError(
            f"Module {card.name!r} was trained with the table of element descriptors {card.atom_table}, "
            f"but backbone {card.backbone!r} has {got}; install the version of the backbone that has it."
        )
