"""Keep built graphs by content: in this process always, in a folder on request.

A graph's key is the hash of its structure, the graph settings and the version of the builder.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from matmosaic.graphs.crystal_graph import CrystalGraph
from matmosaic.structures import caching

# Of at most 512 MiB: some 100,000 compressed graphs of ordinary crystals.
PROCESS_CACHE: caching.MemoryCache[CrystalGraph] = caching.MemoryCache()

GraphCache: TypeAlias = caching.Cache[CrystalGraph]


class DiskCache(caching.DiskCache[CrystalGraph]):
    """Graphs kept in one SQLite file of a folder."""

    content = "graphs"
    kind = CrystalGraph


def open_cache(memory: Any = None) -> GraphCache:
    """Return the cache that an estimator's ``memory`` parameter asks for.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory, default=None
        ``None`` keeps graphs in this process. A folder, or a joblib ``Memory`` with a location,
        keeps them there as well, for other processes and later runs.

    Returns
    -------
    GraphCache
        Shared by all callers in this process.
    """
    return caching.layered(memory, PROCESS_CACHE, DiskCache)
