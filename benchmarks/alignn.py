"""Seconds per training epoch of ALIGNN, and structures predicted per second.

Compressed and uncompressed graphs, each with the library's layers and with plain ones, whose steps are
separate operations of PyTorch, take turns in one run; ``times plain`` says how much faster an epoch is than
with plain layers on uncompressed graphs. An epoch is forward, backward and AdamW over the first
``--structures`` of a task, in batches of ``--batch-size``; graphs are built before. To compare with: with two
threads, alone on a machine of this kind, the reference needs 18.4 s for 256 structures of mp_phonons and
predicts 34.8 structures/s.

    OMP_NUM_THREADS=2 python benchmarks/alignn.py            # full size: some minutes
    python benchmarks/alignn.py --small
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from common import load_task, missing, parser, report
from torch import nn
from torch.nn.functional import linear, mse_loss, silu

from matmosaic.backbones import MLP, alignn_layers, make_table
from matmosaic.backbones.alignn import ALIGNN
from matmosaic.backbones.alignn_kernels import EPSILON
from matmosaic.backbones.trunk import batches
from matmosaic.graphs import GraphTable


def plain_dense(x: Any, weight: Any, bias: Any, norm: Any) -> Any:
    """Do what ``dense_silu`` does, with operations of PyTorch."""
    return silu(normalised(norm, linear(x, weight, bias)))


def plain_mean(
    by_source: Any, by_target: Any, messages: Any, links: Any, weight: Any, graph: Any, norm: Any
) -> Any:
    """Do what ``gated_mean`` does, with operations of PyTorch."""
    gates = by_source[graph.source] + by_target[graph.target] + linear(links, weight)
    opened = gates.sigmoid() * graph.weight.unsqueeze(1)
    zeros = torch.zeros_like(messages)
    total = zeros.index_add(0, graph.target, opened * messages[graph.source])
    denominator = zeros.index_add(0, graph.target, opened) + EPSILON
    links = links + silu(normalised(norm, gates)) if norm else None
    return total / denominator, (EPSILON / denominator).detach(), links


def normalised(norm: Any, x: Any) -> Any:
    """Normalise as if every row were there once, which does not change the time."""
    return nn.BatchNorm1d.forward(norm.norm, x)


@contextmanager
def layers(kind: str) -> Iterator[None]:
    """Let the network use plain layers for a while."""
    own = alignn_layers.gated_mean, alignn_layers.dense_silu
    if kind == "plain":
        alignn_layers.gated_mean, alignn_layers.dense_silu = plain_mean, plain_dense
    try:
        yield
    finally:
        alignn_layers.gated_mean, alignn_layers.dense_silu = own


class Run:
    """A network that is trained on a table, and how long that takes."""

    def __init__(self, options: dict[str, Any], table: GraphTable, kind: str, batch_size: int) -> None:
        torch.manual_seed(0)
        self.table, self.kind = table, kind
        self.backbone = ALIGNN(**options)
        self.head = MLP(self.backbone.n_features, widths=())
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        self.batches = list(batches(len(table), batch_size))
        self.training: list[float] = []
        self.prediction: list[float] = []

    def epoch(self) -> None:
        """Train for an epoch, then predict all structures."""
        with layers(self.kind):
            self.training.append(self._timed(self._step, train=True))
            with torch.no_grad():
                self.prediction.append(self._timed(self._predict, train=False))

    def _timed(self, run: Any, *, train: bool) -> float:
        self.backbone.train(train)
        start = time.perf_counter()
        for rows in self.batches:
            run(self.table.select(rows))
        return time.perf_counter() - start

    def _predict(self, batch: Any) -> torch.Tensor:
        return self.head(self.backbone(batch).u)

    def _step(self, batch: Any) -> None:
        self.optimizer.zero_grad()
        predictions = self._predict(batch)
        mse_loss(predictions, torch.zeros_like(predictions)).backward()
        self.optimizer.step()

    def row(self, plain: Run) -> dict[str, Any]:
        """Return the figures; the first epoch, which finds memory, does not count."""
        epoch, rate = (np.median(times[1:]) for times in (self.training, self.prediction))
        return {
            "graphs": "compressed" if self.table.compressed else "uncompressed",
            "layers": self.kind,
            "angles": sum(len(self.table.select(rows).cosine) for rows in self.batches),
            "s/epoch": float(epoch),
            "fastest": min(self.training[1:]),
            "times plain": float(np.median(plain.training[1:]) / epoch),
            "predictions/s": float(len(self.table) / rate),
        }


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__, tasks=("mp_phonons",))
    options.add_argument("--structures", type=int, default=256)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--epochs", type=int, default=3, help="timed epochs; one more comes first")
    options.add_argument(
        "--small", action="store_true", help="the small network instead of the published one"
    )
    arguments = options.parse_args()
    if missing(arguments.data):
        return
    size = ALIGNN.small().options() if arguments.small else {}
    rows = []
    for task in arguments.tasks:
        structures = load_task(arguments.data, task)[0][: arguments.structures]
        tables = [make_table(ALIGNN.small(), structures, compress=compress) for compress in (True, False)]
        runs = [
            Run(size, table, kind, arguments.batch_size)
            for table in tables
            for kind in ("blockwise", "plain")
        ]
        for _ in range(arguments.epochs + 1):
            for run in runs:
                run.epoch()
        rows += [{"task": task, "n": len(structures), **run.row(runs[-1])} for run in runs]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
