"""What the frozen trunks of several experts gave for the same structures."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from matmosaic.backbones import Backbone, trunk_depth
from matmosaic.backbones import base as backbone_base
from matmosaic.backbones.trunk import trunk_features
from matmosaic.exceptions import TrunkMemoryWarning
from matmosaic.graphs import GraphTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpertInput:
    """Where one expert starts."""

    table: int
    """Number of the graph table that it reads."""
    start: int = 0
    """Its first stage to run; those before it have been run."""
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    """What those stages gave, beside the table; before the first stage, features that are no network's."""

    def raw(self) -> ExpertInput:
        """Return where the expert starts if no trunk was run."""
        return self if self.start == 0 else ExpertInput(self.table)

    def to(self, device: torch.device | str) -> ExpertInput:
        """Return the same beside a table on another device."""
        fields = {name: values.to(device) for name, values in self.fields.items()}
        return replace(self, fields=fields)


class ExpertTable:
    """Many structures as several experts see them.

    Experts whose graphs are built alike share a :class:`GraphTable`; each adds what its own trunk
    gave. Fields with equal values, such as the Gaussians of bond lengths, are kept once.

    Parameters
    ----------
    tables : sequence of GraphTable
        Of the same structures, each built with other settings.
    inputs : sequence of ExpertInput
        One per expert.

    Attributes
    ----------
    graphs : list of GraphTable
        The tables as they were given: those in ``tables`` may lose fields that no expert reads.
    """

    def __init__(self, tables: Sequence[GraphTable], inputs: Sequence[ExpertInput]) -> None:
        self.graphs = list(tables)
        self.tables = list(tables)
        self.inputs = list(inputs)

    def __len__(self) -> int:
        return len(self.tables[0])

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self.tables[0].device

    def to(self, device: torch.device | str) -> ExpertTable:
        """Return the tables on another device, before any trunk was run."""
        tables = [table.to(device) for table in self.tables]
        return ExpertTable(tables, [one.to(device) for one in self.inputs])

    def raw(self, experts: Sequence[int]) -> ExpertTable:
        """Return what some of the experts start from if no trunk was run."""
        return ExpertTable(self.graphs, [self.inputs[expert].raw() for expert in experts])

    def keep_experts(self, experts: Sequence[int]) -> None:
        """Keep some of the experts, in place, so that what the others' trunks gave is freed."""
        inputs = [self.inputs[expert] for expert in experts]
        used = sorted({one.table for one in inputs})
        self.inputs = [replace(one, table=used.index(one.table)) for one in inputs]
        self.graphs = [self.graphs[number] for number in used]
        self.tables = [self.tables[number] for number in used]

    def select(self, rows: Any) -> ExpertBatch:
        """Return some structures as a batch."""
        return ExpertBatch(self, rows)

    def fields(self) -> list[Tensor]:
        """Return what the trunks gave, each tensor once."""
        return list({id(tensor): tensor for one in self.inputs for tensor in one.fields.values()}.values())


class ExpertBatch:
    """Some structures, with a graph for each expert that is asked for.

    Parameters
    ----------
    table : ExpertTable
        What is selected from.
    rows : ints of shape (n_rows,)
        In any order; repeats are allowed.
    """

    def __init__(self, table: ExpertTable, rows: Any) -> None:
        self.inputs = table.inputs
        self._selections = [one.at(rows) for one in table.tables]
        self._graphs = [selection.batch() for selection in self._selections]
        # Experts may run in several threads: two that gather the same field do it twice, no harm done.
        self._gathered: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self._selections[0].rows)

    @property
    def on_cpu(self) -> bool:
        """Whether the batch lies in the memory of the processor."""
        return self._selections[0].rows.device.type == "cpu"

    def graph(self, expert: int) -> Data:
        """Return the graphs of the batch as the stages from :meth:`start` on take them."""
        given = self.inputs[expert]
        features = {name: self._gather(given.table, name, values) for name, values in given.fields.items()}
        return backbone_base.replace(self._graphs[given.table], **features)

    def start(self, expert: int) -> int:
        """Return the first stage that an expert must run."""
        return self.inputs[expert].start

    def _gather(self, table: int, name: str, values: Tensor) -> Tensor:
        key = (table, id(values))
        if key not in self._gathered:
            self._gathered[key] = self._selections[table].gather(name, values)
        return self._gathered[key]


def run_trunks(
    backbones: Iterable[Backbone],
    table: ExpertTable,
    *,
    names: Sequence[str],
    batch_size: int,
    max_bytes: int,
) -> ExpertTable:
    """Run each expert's frozen trunk once over all structures.

    Parameters
    ----------
    backbones : iterable of Backbone
        With their trainable parameters already chosen.
    table : ExpertTable
        On which no trunk was run.
    names : sequence of str
        What the experts are called in messages.
    batch_size : int
        Structures per forward pass.
    max_bytes : int
        What is kept in the processor's memory; more goes to temporary files that are mapped into memory,
        and what does not fit there either is computed anew in each step, with a TrunkMemoryWarning.

    Returns
    -------
    ExpertTable
        Whose experts start after their trunks.
    """
    done = ExpertTable(table.tables, [])
    storage = _Storage(max_bytes)
    failed: dict[str, str] = {}
    for backbone, name, given in zip(backbones, names, table.inputs, strict=True):
        if given.fields:  # No network's features: they are all there is.
            done.inputs.append(given)
            continue
        fields: dict[str, Tensor] = {}
        try:
            fields = trunk_features(
                backbone, table.tables[given.table], batch_size=batch_size, empty=storage.empty
            )
        except (MemoryError, torch.OutOfMemoryError, OSError) as error:
            # The text alone: the error itself would keep the half-filled tensors.
            failed[name] = str(error)
        shared = {key: _known(done.inputs, key, values) for key, values in fields.items()}
        done.inputs.append(ExpertInput(given.table, trunk_depth(backbone), shared) if shared else given)
        storage.settle(done.fields())
    if failed:
        _warn_of_memory(failed, table.device)
    done.tables = [_needed(graphs, number, done.inputs) for number, graphs in enumerate(done.tables)]
    return done


def _warn_of_memory(failed: Mapping[str, str], device: torch.device) -> None:
    """Warn of experts, with the reason of each, whose trunks' outputs do not fit anywhere."""
    place, remedy = (
        "memory or the temporary folder",
        "Free memory, or let TMPDIR name a folder with more room",
    )
    if device.type != "cpu":
        place, remedy = "the memory of the device", "Free some of it, or use device='cpu'"
    warnings.warn(
        f"The outputs of the frozen layers of {list(failed)} do not fit into {place} "
        f"({next(iter(failed.values()))}); these layers are run anew in each step, which is slower. "
        f"{remedy}.",
        TrunkMemoryWarning,
        stacklevel=7,  # The call of fit.
    )


def _needed(graphs: GraphTable, number: int, inputs: Sequence[ExpertInput]) -> GraphTable:
    """Return a table without its fields if all that is read of its structures are finished features."""
    finished = all("u" in one.fields for one in inputs if one.table == number)
    return graphs.with_features(keep=()) if finished else graphs


def _known(inputs: Sequence[ExpertInput], name: str, values: Tensor) -> Tensor:
    """Return the tensor of an earlier expert if it holds the same values."""
    earlier = (one.fields[name] for one in inputs if name in one.fields)
    return next((other for other in earlier if torch.equal(other, values)), values)


class _Storage:
    """Makes tensors in memory while there is room, and in temporary files after that.

    Parameters
    ----------
    n_bytes : int
        Room in the memory of the processor.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.in_memory: list[Tensor] = []
        self.unwritten = 0

    def empty(self, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an unfilled tensor; raise MemoryError if there is no room for it anywhere."""
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        needed = prod(shape) * dtype.itemsize
        if needed <= self.n_bytes - sum(one.nbytes for one in self.in_memory):
            # torch's allocator of the processor raises nothing more specific.
            with suppress(RuntimeError, MemoryError):
                self.in_memory.append(torch.empty(shape, dtype=dtype))
                return self.in_memory[-1]
        return self._mapped(shape, dtype, needed)

    def _mapped(self, shape: tuple[int, ...], dtype: torch.dtype, needed: int) -> Tensor:
        # Files take up space as they are written, which those of this trunk hardly are yet.
        free = shutil.disk_usage(tempfile.gettempdir()).free - self.unwritten
        # A mapped file that outgrows the disk would kill the process when it is written to.
        if needed > free:
            raise MemoryError(f"{needed:,} bytes are needed, {free:,} are free in {tempfile.gettempdir()}")
        self.unwritten += needed
        logger.info("mapping %s bytes of trunk outputs to a temporary file", f"{needed:,}")
        numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
        # The system deletes the file when the last map of it is gone.
        with tempfile.TemporaryFile() as file:
            return torch.from_numpy(np.memmap(file, dtype=numpy_dtype, mode="w+", shape=shape))

    def settle(self, kept: Iterable[Tensor]) -> None:
        """Give back what a finished trunk has filled but is not kept."""
        numbers = {id(tensor) for tensor in kept}
        self.in_memory = [one for one in self.in_memory if id(one) in numbers]
        self.unwritten = 0
