"""Run the frozen trunk once per structure, and a whole backbone for features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from matmosaic.backbones.base import Backbone
from matmosaic.backbones.freezing import trunk_depth
from matmosaic.exceptions import InvalidParameterError, UnsupportedElementError
from matmosaic.graphs.table import GraphTable

ROWS_NAMED = 10
FEATURES = ("x", "edge_attr", "u")
REMEDY = "Remove these rows."


def make_table(
    backbone: Backbone,
    X: Any,
    *,
    compress: bool = True,
    n_jobs: int | None = None,
    memory: Any = None,
    name: str = "the backbone",
    remedy: str = REMEDY,
) -> GraphTable:
    """Return the graphs that a backbone works on.

    Parameters
    ----------
    backbone : Backbone
        Whose settings and elements count.
    X : structures or GraphTable, length n_structures
        A table is taken as it is, if its settings are the backbone's.
    compress : bool, default=True
        Compress the graphs, if the backbone supports weights.
    n_jobs : int, optional
        Processes that build graphs.
    memory : None, str, path-like or joblib.Memory, optional
        Where graphs are kept beside this process.
    name : str, default="the backbone"
        What the backbone is called in messages.
    remedy : str, optional
        What to do about elements that it does not know.

    Returns
    -------
    GraphTable
        With floating-point fields of torch's default dtype.

    Raises
    ------
    UnsupportedElementError
        Names the rows that hold elements without descriptors.
    InvalidParameterError
        If a given table was built with other settings.
    """
    if not backbone.supports_weights and backbone.graph_settings.ties != "reference":
        raise InvalidParameterError(
            f"{type(backbone).__name__} weighs no bonds, as ties={backbone.graph_settings.ties!r} needs. "
            "Give it graph_settings=GraphSettings(ties='reference')."
        )
    compressed = compress and backbone.supports_weights
    if isinstance(X, GraphTable):
        _check_table(X, backbone)
        table = X
    else:
        table = GraphTable.from_structures(X, backbone, compressed=compressed, n_jobs=n_jobs, memory=memory)
    check_elements(table, backbone.elements(), name=name, remedy=remedy)
    return table


def _check_table(table: GraphTable, backbone: Backbone) -> None:
    if table.settings != backbone.graph_settings:
        raise InvalidParameterError(
            f"'X' is a GraphTable built with {table.settings}, but the backbone needs "
            f"{backbone.graph_settings}. Build it with GraphTable.from_structures(structures, backbone)."
        )
    if table.compressed and not backbone.supports_weights:
        raise InvalidParameterError(
            f"'X' is a compressed GraphTable, but {type(backbone).__name__} does not support weights. "
            "Build it with compressed=False."
        )


def check_elements(
    table: GraphTable, known: frozenset[int] | None, *, name: str, remedy: str = REMEDY
) -> None:
    """Raise UnsupportedElementError, with rows, if a table holds atomic numbers that are not known."""
    if known is None:
        return
    z = table.fields["z"].cpu().numpy()
    bad = np.flatnonzero(~np.isin(z, list(known)))
    if len(bad):
        rows = np.unique(np.searchsorted(table.pointers["atom"].cpu().numpy(), bad, side="right") - 1)
        named = ", ".join(f"X[{row}]" for row in rows[:ROWS_NAMED])
        raise UnsupportedElementError(
            f"{named}{' ...' if len(rows) > ROWS_NAMED else ''} ({len(rows)} rows) hold elements that {name} "
            f"has no descriptors for: atomic numbers {sorted(set(z[bad].tolist()))}. {remedy}"
        )


def batches(n_rows: int, batch_size: int) -> Iterator[range]:
    """Yield consecutive ranges of row numbers."""
    for start in range(0, n_rows, batch_size):
        yield range(start, min(start + batch_size, n_rows))


def trunk_table(backbone: Backbone, table: GraphTable, *, batch_size: int = 256) -> GraphTable:
    """Run the frozen trunk once over a table and keep what the tail reads.

    Parameters
    ----------
    backbone : Backbone
        With its trainable parameters already chosen.
    table : GraphTable
        Of length n_structures.
    batch_size : int, default=256
        Structures per forward pass.

    Returns
    -------
    GraphTable
        Continue with ``backbone(batch, start=trunk_depth(backbone))``. After a whole backbone, it
        holds ``u`` alone.
    """
    depth = trunk_depth(backbone)
    if depth == 0:
        return table
    whole = depth == len(backbone.stages)
    features = trunk_features(backbone, table, batch_size=batch_size)
    return table.with_features(keep=() if whole else None, **features)


def trunk_features(
    backbone: Backbone,
    table: GraphTable,
    *,
    batch_size: int = 256,
    empty: Callable[..., Tensor] = torch.empty,
) -> dict[str, Tensor]:
    """Run the frozen trunk once over a table and return what it adds for the tail.

    Parameters
    ----------
    backbone : Backbone
        With its trainable parameters already chosen.
    table : GraphTable
        Of length n_structures.
    batch_size : int, default=256
        Structures per forward pass.
    empty : callable, default=torch.empty
        Makes the tensors that are filled, of a shape, ``dtype=`` and ``device=``.

    Returns
    -------
    dict of str to Tensor
        ``x``, ``edge_attr`` and ``u``, as far as the trunk sets them; after a whole backbone ``u`` alone.
    """
    depth = trunk_depth(backbone)
    names = ("u",) if depth == len(backbone.stages) else FEATURES
    features: dict[str, Tensor] = {}
    filled = dict.fromkeys(names, 0)
    for graph in _run(backbone, table, batch_size, depth):
        for name in names:
            if name not in graph:
                continue
            part = graph[name]
            if name not in features:
                shape = (table.n_rows(name), *part.shape[1:])
                features[name] = empty(shape, dtype=part.dtype, device=part.device)
            features[name][filled[name] : filled[name] + len(part)] = part
            filled[name] += len(part)
    return features


def structure_features(
    backbone: Backbone, X: Any, *, batch_size: int = 256, n_jobs: int | None = None, memory: Any = None
) -> Tensor:
    """Return the features E(x) of structures, without gradient and in evaluation mode.

    Parameters
    ----------
    backbone : Backbone
        Left in the mode it was in.
    X : structures or GraphTable, length n_structures
        What the features are computed of.
    batch_size : int, default=256
        Structures per forward pass.
    n_jobs : int, optional
        Processes that build graphs.
    memory : None, str, path-like or joblib.Memory, optional
        Where graphs are kept beside this process.

    Returns
    -------
    Tensor of shape (n_structures, n_features)
        On the backbone's device.
    """
    table = make_table(backbone, X, n_jobs=n_jobs, memory=memory)
    device = next(backbone.parameters()).device
    return torch.cat([graph.u for graph in _run(backbone, table.to(device), batch_size, None)])


@torch.no_grad()
def _run(backbone: Backbone, table: GraphTable, batch_size: int, depth: int | None) -> Iterator[Data]:
    mode = backbone.training
    backbone.eval()
    try:
        for rows in batches(len(table), batch_size):
            yield backbone(table.select(rows), stop=depth)
    finally:
        backbone.train(mode)
