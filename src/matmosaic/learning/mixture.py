"""A mixture of experts: several backbones, a gate and a head."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from matmosaic.backbones import Backbone, make_table
from matmosaic.backbones.stacking import stacked_features, stacking_key
from matmosaic.backbones.trunk import batches, check_elements
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphTable
from matmosaic.learning.aggregation import Aggregation
from matmosaic.learning.dataset import TableDataset
from matmosaic.learning.experts import ExpertBatch, ExpertInput, ExpertTable, run_trunks
from matmosaic.learning.featurized import FeatureExpert, without_graphs
from matmosaic.learning.gate import Gate
from matmosaic.learning.parallel import differentiable_side_by_side
from matmosaic.structures import as_structures

# Of Adam: maps of hundreds of features are learnt from hundreds of rows.
PROJECTION_DECAY = 1e-4


class MixtureModel(nn.Module):
    """Predict targets from the features of several backbones, weighted by a gate.

    Parameters
    ----------
    experts : sequence of Backbone
        With their trainable parameters already chosen; :class:`FeatureExpert` for featurizers.
    names : sequence of str
        What the experts are called in messages.
    gate : Gate
        Over the experts.
    aggregation : Aggregation
        Makes a prediction of features and weights.
    gate_penalty : float
        Factor of the gate's penalty in the training loss.
    max_trunk_bytes : int
        Memory for the outputs of frozen trunks; see :func:`~matmosaic.learning.experts.run_trunks`.
    """

    pretrained = "experts.*"
    options_by_name: ClassVar[list[tuple[str, dict[str, Any]]]] = [
        ("aggregation.projections.*", {"weight_decay": PROJECTION_DECAY})
    ]

    def __init__(
        self,
        experts: Sequence[Backbone],
        names: Sequence[str],
        gate: Gate,
        aggregation: Aggregation,
        *,
        gate_penalty: float = 0.0,
        max_trunk_bytes: int = 0,
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.names = list(names)
        self.gate = gate
        self.aggregation = aggregation
        self.gate_penalty = gate_penalty
        self.max_trunk_bytes = max_trunk_bytes
        # Whether experts of one architecture run at once; None for wherever that is faster: not on a CPU.
        self._stacked: bool | None = None
        super().train()

    @property
    def backbones(self) -> list[Backbone]:
        """The experts."""
        return cast("list[Backbone]", list(self.experts))

    def train(self, mode: bool = True) -> MixtureModel:
        """Switch between training and evaluation, if it is another mode: each switch walks all layers."""
        return self if mode == self.training else super().train(mode)

    def forward(self, batch: ExpertBatch) -> Tensor:
        """Map what the trunks gave for some structures to targets (n_structures, 1)."""
        active = self.gate.active()
        return self.aggregation(self.features(batch, active), self.gate(active), active)

    def features(self, batch: ExpertBatch, active: list[int]) -> list[Tensor]:
        """Return the features (n_structures, width) of the active experts."""
        experts = self.backbones
        if self._stacked or (self._stacked is None and not batch.on_cpu):
            return _features_at_once(experts, batch, active)
        functions = [partial(_tail, experts[number], batch, number) for number in active]
        if batch.on_cpu:
            trained = [
                [one for one in experts[number].parameters() if one.requires_grad] for number in active
            ]
            return differentiable_side_by_side(functions, trained)
        return [function() for function in functions]

    def penalty(self) -> Tensor | float:
        """Return what is added to the training loss."""
        return self.gate_penalty * self.gate.penalty() if self.gate_penalty else 0.0

    def elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that all experts know; None for all."""
        known = [some for some in (expert.elements() for expert in self.backbones) if some is not None]
        return frozenset.intersection(*known) if known else None

    def make_table(self, X: Any, **options: Any) -> ExpertTable:
        """Return the graphs, and features of featurizers, that the experts work on.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            A table suffices where all experts read graphs of its settings.
        **options
            Those of :func:`~matmosaic.backbones.make_table`.

        Raises
        ------
        InvalidParameterError
            If a table does not suffice.
        """
        kinds = list(dict.fromkeys(self._graph_kinds()))
        if isinstance(X, GraphTable):
            self._check_one_kind(kinds)
        elif None in kinds:
            X = as_structures(X)  # Read once, by whichever expert.
        first = [self._graph_kinds().index(kind) for kind in kinds]
        tables = [self._table_of(one, X, **options) for one in first]
        inputs = [self._input_of(one, X, kinds) for one in range(len(self.experts))]
        for number, (expert, given) in enumerate(zip(self.backbones, inputs, strict=True)):
            check_elements(tables[given.table], expert.elements(), **self._named(number))
        return ExpertTable(tables, inputs)

    def _graph_kinds(self) -> list[Hashable]:
        """Return what experts share whose graphs are built alike; None for those without graphs."""
        return [
            None if isinstance(one, FeatureExpert) else (one.graph_settings, one.supports_weights)
            for one in self.backbones
        ]

    def _check_one_kind(self, kinds: Sequence[Hashable]) -> None:
        """Raise InvalidParameterError if one table of graphs is not enough."""
        if None in kinds:
            names = [one for one, kind in zip(self.names, self._graph_kinds(), strict=True) if kind is None]
            raise InvalidParameterError(
                f"'X' is a GraphTable, which holds no structures for the featurizers {names} to read. Give "
                "structures instead."
            )
        if len(kinds) > 1:
            raise InvalidParameterError(
                "'X' is a GraphTable, but the modules need graphs of different settings: "
                f"{dict(zip(self.names, self._graph_kinds(), strict=True))}. Give structures instead."
            )

    def _table_of(self, number: int, X: Any, **options: Any) -> GraphTable:
        expert = self.backbones[number]
        if isinstance(expert, FeatureExpert):
            return without_graphs(len(X))
        return make_table(expert, X, **self._named(number), **options)

    def _input_of(self, number: int, X: Any, kinds: Sequence[Hashable]) -> ExpertInput:
        expert, kind = self.backbones[number], self._graph_kinds()[number]
        fields = {"u": expert.raw_features(X)} if isinstance(expert, FeatureExpert) else {}
        return ExpertInput(kinds.index(kind), fields=fields)

    def _named(self, number: int) -> dict[str, Any]:
        """Return what messages say of an expert."""
        name = f"module {self.names[number]!r}"
        return {"name": name, "remedy": "Remove these rows, or leave out this module."}

    def run_trunk(self, table: ExpertTable, *, batch_size: int) -> ExpertTable:
        """Run the frozen trunks once per structure."""
        return run_trunks(
            self.backbones, table, names=self.names, batch_size=batch_size, max_bytes=self.max_trunk_bytes
        )

    def fit_featurizers(self, rows: TableDataset) -> None:
        """Read what the features of featurizers are imputed and standardised by off training rows."""
        inputs = cast("ExpertTable", rows.table).inputs
        for expert, given in zip(self.backbones, inputs, strict=True):
            if isinstance(expert, FeatureExpert):
                expert.fit(given.fields["u"][rows.rows], rows.targets[:, 1])

    @torch.no_grad()
    def all_features(self, rows: TableDataset, *, batch_size: int) -> list[Tensor]:
        """Return the features (n_structures, width) of every expert, in evaluation mode."""
        self.eval()
        every = list(range(len(self.experts)))
        parts = [self.features(rows.__getitems__(part)[0], every) for part in batches(len(rows), batch_size)]
        return [torch.cat(some) for some in zip(*parts, strict=True)]

    @torch.no_grad()
    def predict(self, table: ExpertTable, *, batch_size: int = 256) -> Tensor:
        """Map graphs that no trunk was run on to targets (n_structures, 1)."""
        self.eval()
        return torch.cat([self(table.select(rows)) for rows in batches(len(table), batch_size)])


def _features_at_once(experts: Sequence[Backbone], batch: ExpertBatch, active: list[int]) -> list[Tensor]:
    """Run experts of one architecture at once, and the others one after the other."""
    groups: dict[Hashable, list[int]] = {}
    for number in active:
        kind = stacking_key(experts[number], start=batch.start(number))
        key = number if kind is None else (kind, batch.inputs[number].table)
        groups.setdefault(key, []).append(number)
    features: dict[int, Tensor] = {}
    for group in groups.values():
        features |= zip(group, _features_of(experts, batch, group), strict=True)
    return [features[number] for number in active]


def _features_of(experts: Sequence[Backbone], batch: ExpertBatch, group: list[int]) -> list[Tensor]:
    if len(group) == 1:
        return [_tail(experts[group[0]], batch, group[0])]
    graphs = [batch.graph(number) for number in group]
    return stacked_features([experts[number] for number in group], graphs, start=batch.start(group[0]))


def _tail(expert: Backbone, batch: ExpertBatch, number: int) -> Tensor:
    return expert(batch.graph(number), start=batch.start(number)).u
