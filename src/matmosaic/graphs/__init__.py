"""Neighbour graphs of structures, exactly compressed, and tables of many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matmosaic.graphs.build import build_graphs
from matmosaic.graphs.crystal_graph import CrystalGraph
from matmosaic.graphs.settings import GraphSettings

if TYPE_CHECKING:
    from matmosaic.graphs.table import GraphTable

__all__ = ["CrystalGraph", "GraphSettings", "GraphTable", "build_graphs"]


def __getattr__(name: str) -> Any:
    if name == "GraphTable":  # The table needs torch, the settings and graphs do not.
        from matmosaic.graphs.table import GraphTable

        return GraphTable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
