"""The network of a composition: the mean of modules, or a mixture of fixed weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import nn

from matmosaic.backbones import Backbone
from matmosaic.estimators._experts import projected_widths
from matmosaic.estimators._featurizers import FeaturizerSource, Source
from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning import MixtureModel, RegressionModel, TableDataset
from matmosaic.learning.aggregation import AGGREGATIONS, Aggregation
from matmosaic.learning.experts import ExpertTable
from matmosaic.learning.gate import Gate
from matmosaic.learning.merging import merge_modules, reestimate_statistics
from matmosaic.modules import PretrainedModule

# For training and, where there are any, for validation.
Rows: TypeAlias = "tuple[TableDataset, TableDataset | None]"


class Candidates(MixtureModel):
    """Networks side by side that give their features, and predict nothing.

    Parameters
    ----------
    sources : sequence of PretrainedModule and FeaturizerSource
        The modules and featurizers that they are of: what a reference named then may change or vanish later.
    experts, names, max_trunk_bytes
        As for :class:`MixtureModel`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        experts: Sequence[Backbone],
        names: Sequence[str],
        *,
        max_trunk_bytes: int,
    ) -> None:
        nothing = cast("Aggregation", nn.Identity())
        gate = Gate(torch.ones(len(experts)), len(experts))
        super().__init__(experts, names, gate, nothing, max_trunk_bytes=max_trunk_bytes)
        self.sources = list(sources)


def check_networks(sources: Sequence[Source]) -> list[PretrainedModule]:
    """Return the modules, or raise InvalidParameterError if there are featurizers among them."""
    modules = [one for one in sources if isinstance(one, PretrainedModule)]
    others = [one.card.name for one in sources if isinstance(one, FeaturizerSource)]
    if others:
        raise InvalidParameterError(
            f"combine='parameters' averages networks, and featurizers have no parameters. Got {others} in "
            "'modules'. Use combine='features', which mixes what modules and featurizers give, or leave them "
            "out."
        )
    return modules


def mean_module(
    modules: Sequence[PretrainedModule],
    weights: np.ndarray,
    rows: TableDataset,
    *,
    names: Sequence[str],
    batch_size: int,
) -> PretrainedModule:
    """Return the weighted mean of modules, its batch normalisation fitted to structures.

    Parameters
    ----------
    modules : sequence of PretrainedModule
        Of one architecture and base.
    weights : ndarray of shape (n_modules,)
        Not negative, of sum 1.
    rows : TableDataset
        Training rows, of graphs that no trunk was run on.
    names : sequence of str
        What the modules are called.
    batch_size : int
        Structures per forward pass.

    Returns
    -------
    PretrainedModule
        Without a head.
    """
    mean = merge_modules(modules, weights.tolist(), names=names)
    # One module needs no new statistics, and those of adapters are their base's, which stays as it is.
    if len(mean.card.sources) == 1 or mean.card.kind == "adapter":
        return mean
    backbone = mean.build_backbone().to(rows.table.device)
    if not reestimate_statistics(backbone, rows, batch_size=batch_size):
        return mean
    values = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    return PretrainedModule(replace(mean.card, sha256=None), values)


def fixed_mixture(
    experts: Sequence[Backbone],
    names: Sequence[str],
    weights: np.ndarray,
    *,
    head_widths: Sequence[int],
    max_trunk_bytes: int,
) -> MixtureModel:
    """Return a mixture whose gate is not trained.

    Parameters
    ----------
    experts : sequence of Backbone
        With their trainable parameters already chosen.
    names : sequence of str
        What they are called in messages.
    weights : ndarray of shape (n_experts,)
        Above 0, of sum 1.
    head_widths : sequence of int
        Hidden layers of the head, on the sum of features, or on all side by side if networks differ in width.
    max_trunk_bytes : int
        As for :class:`MixtureModel`.
    """
    scores = torch.as_tensor(np.log(weights), dtype=torch.get_default_dtype())
    gate = Gate(scores, len(experts)).requires_grad_(False)
    widths = [expert.n_features for expert in experts]
    projected = projected_widths(experts, None, add=False)
    one_width = len({to or width for to, width in zip(projected, widths, strict=True)}) == 1
    aggregation = AGGREGATIONS["add" if one_width else "concat"](widths, head_widths, projected)
    return MixtureModel(experts, names, gate, aggregation, max_trunk_bytes=max_trunk_bytes)


def through_trunks(
    model: RegressionModel | MixtureModel,
    rows: Rows,
    *,
    batch_size: int,
    experts: Sequence[int] | None = None,
) -> Rows:
    """Return training and validation rows of what the trunks of another model give.

    Parameters
    ----------
    model : RegressionModel or MixtureModel
        With its trainable parameters already chosen.
    rows : tuple of TableDataset, and TableDataset or None
        Training and validation rows of the tables of many experts; a table that both share is made once.
    batch_size : int
        Structures per forward pass.
    experts : sequence of int, optional
        Those of the model, a mixture; not given for a single network.
    """
    made: dict[int, Any] = {}

    def moved(one: TableDataset) -> TableDataset:
        if id(one.table) not in made:
            made[id(one.table)] = model.run_trunk(_raw(one, experts), batch_size=batch_size)
        other = copy.copy(one)
        other.table = made[id(one.table)]
        return other

    train, validation = rows
    return moved(train), None if validation is None else moved(validation)


def _raw(rows: TableDataset, experts: Sequence[int] | None) -> Any:
    """Return graphs on which no trunk was run: for some experts, or those of the first."""
    if experts is None:
        return rows.raw().table
    return cast("ExpertTable", rows.table).raw(experts)
