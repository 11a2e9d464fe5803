"""Keep built graphs by content: in this process always, in a folder on request.

A graph's key is the hash of its structure, the graph settings and the version of the builder, so
folds, seeds, estimators and processes share graphs and nothing is ever stale.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from matmosaic.exceptions import InvalidParameterError, StoreError
from matmosaic.graphs.crystal_graph import CrystalGraph

logger = logging.getLogger(__name__)

# One process keeps at most this much; some 100,000 compressed graphs of ordinary crystals.
MEMORY_LIMIT_BYTES = 512 * 2**20
# SQLite's default limit of host parameters is 999 in old builds.
KEYS_PER_QUERY = 500
LOCK_TIMEOUT_SECONDS = 120.0


class GraphCache(Protocol):
    """A place that keeps graphs by key."""

    def get(self, keys: Iterable[str]) -> dict[str, CrystalGraph]:
        """Return the graphs that are there, by key."""

    def put(self, graphs: Mapping[str, CrystalGraph]) -> None:
        """Add graphs."""


class MemoryCache:
    """Graphs kept in this process; the least recently used go first.

    Parameters
    ----------
    limit : int, default=536870912
        Bytes that the kept arrays may take.
    """

    def __init__(self, limit: int = MEMORY_LIMIT_BYTES) -> None:
        self.limit = limit
        self._graphs: OrderedDict[str, CrystalGraph] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, keys: Iterable[str]) -> dict[str, CrystalGraph]:
        """Return the graphs that are there, by key."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._graphs:
                    self._graphs.move_to_end(key)
                    found[key] = self._graphs[key]
        return found

    def put(self, graphs: Mapping[str, CrystalGraph]) -> None:
        """Add graphs, and drop the least recently used beyond the limit."""
        with self._lock:
            for key, graph in graphs.items():
                if key not in self._graphs:
                    self._graphs[key] = graph
                    self._nbytes += graph.nbytes
            while self._nbytes > self.limit and self._graphs:
                _, dropped = self._graphs.popitem(last=False)
                self._nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget all graphs."""
        with self._lock:
            self._graphs.clear()
            self._nbytes = 0


class DiskCache:
    """Graphs kept in one SQLite file of a folder; safe under concurrent readers and writers.

    Parameters
    ----------
    folder : str or Path
        Made when it is first used.

    Raises
    ------
    StoreError
        When it is used, if the file is damaged, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / "matmosaic-graphs.sqlite"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (
                contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection,
                connection,
            ):
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS graphs (key TEXT PRIMARY KEY, arrays BLOB NOT NULL)"
                )
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The graph cache {path} cannot be used: {error}. All it holds can be built again: delete "
                "it, or pass another folder as 'memory'."
            ) from error

    def get(self, keys: Iterable[str]) -> dict[str, CrystalGraph]:
        """Return the graphs that are there, by key."""
        from safetensors.numpy import load

        rows = self._select("key, arrays", keys)
        return {key: CrystalGraph(**load(arrays)) for key, arrays in rows}

    def names(self, keys: Iterable[str]) -> set[str]:
        """Return those of some keys whose graphs are there, without reading them."""
        return {key for (key,) in self._select("key", keys)}

    def _select(self, columns: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        keys, rows = list(keys), []
        with self._connect() as connection:
            for start in range(0, len(keys), KEYS_PER_QUERY):
                some = keys[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                rows += connection.execute(
                    f"SELECT {columns} FROM graphs WHERE key IN ({marks})", some
                ).fetchall()
        return rows

    def put(self, graphs: Mapping[str, CrystalGraph]) -> None:
        """Add graphs; those that another process added meanwhile stay as they are."""
        from safetensors.numpy import save

        rows = [(key, save(graph.arrays())) for key, graph in graphs.items()]
        with self._connect() as connection:
            connection.executemany("INSERT OR IGNORE INTO graphs VALUES (?, ?)", rows)


class LayeredCache:
    """The memory of this process in front of a folder.

    Parameters
    ----------
    memory : MemoryCache
        Looked up first.
    disk : DiskCache
        Holds afterwards whatever was asked for and found in either.
    """

    def __init__(self, memory: MemoryCache, disk: DiskCache) -> None:
        self.memory = memory
        self.disk = disk

    def get(self, keys: Iterable[str]) -> dict[str, CrystalGraph]:
        """Return the graphs that are there, by key."""
        keys = list(keys)
        found = self.memory.get(keys)
        # Built before this folder was named: other processes and later runs want them, too.
        absent = found.keys() - self.disk.names(found)
        if absent:
            self.disk.put({key: found[key] for key in absent})
        missing = [key for key in keys if key not in found]
        fetched = self.disk.get(missing) if missing else {}
        self.memory.put(fetched)
        return found | fetched

    def put(self, graphs: Mapping[str, CrystalGraph]) -> None:
        """Add graphs to both."""
        self.memory.put(graphs)
        self.disk.put(graphs)


PROCESS_CACHE = MemoryCache()


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
    location = getattr(memory, "location", memory)
    if location is None:
        return PROCESS_CACHE
    try:
        return LayeredCache(PROCESS_CACHE, DiskCache(Path(location)))
    except TypeError:
        raise InvalidParameterError(
            f"'memory' must be None, a folder or a joblib.Memory. Got {type(memory).__name__}: {memory!r}."
        ) from None
