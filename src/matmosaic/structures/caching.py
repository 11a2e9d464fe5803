"""Keep what was computed of structures, by content: in this process always, in a folder on request.

A key holds the hash of a structure and says all else that the value depends on, so folds, seeds,
estimators and processes share values and nothing is ever stale.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from matmosaic.exceptions import InvalidParameterError, StoreError

# SQLite's default limit of host parameters is 999 in old builds.
KEYS_PER_QUERY = 500
LOCK_TIMEOUT_SECONDS = 120.0


class Arrays(Protocol):
    """What is kept: some named arrays, of which the class can be made again."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""


Value = TypeVar("Value", bound=Arrays)


class Cache(Protocol[Value]):
    """A place that keeps values by key."""

    def get(self, keys: Iterable[str]) -> dict[str, Value]:
        """Return the values that are there, by key."""

    def put(self, values: Mapping[str, Value]) -> None:
        """Add values."""


class MemoryCache(Generic[Value]):
    """Values kept in this process; the least recently used go first.

    Parameters
    ----------
    limit : int, default=536870912
        Bytes that the kept values may take.
    """

    def __init__(self, limit: int = 512 * 2**20) -> None:
        self.limit = limit
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, keys: Iterable[str]) -> dict[str, Value]:
        """Return the values that are there, by key."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
        return found

    def put(self, values: Mapping[str, Value]) -> None:
        """Add values, and drop the least recently used beyond the limit."""
        with self._lock:
            for key, value in values.items():
                if key not in self._values:
                    self._values[key] = value
                    self._nbytes += value.nbytes
            while self._nbytes > self.limit and self._values:
                _, dropped = self._values.popitem(last=False)
                self._nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()
            self._nbytes = 0


class DiskCache(Generic[Value]):
    """Values kept in one SQLite file of a folder; safe under concurrent readers and writers.

    A subclass says what the values are.

    Parameters
    ----------
    folder : str or Path
        Made when it is first used.

    Raises
    ------
    StoreError
        When it is used, if the file is damaged, or the folder cannot be written.
    """

    content: ClassVar[str]
    """What the values are, in the plural: part of the file's name, and the name of its table."""
    kind: Callable[..., Value]
    """What makes a value; called with the arrays by name."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / f"matmosaic-{self.content}.sqlite"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (
                contextlib.closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection,
                connection,
            ):
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {self.content} (key TEXT PRIMARY KEY, arrays BLOB NOT NULL)"
                )
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The cache {path} cannot be used: {error}. All it holds can be computed again: delete it, "
                "or pass another folder as 'memory'."
            ) from error

    def get(self, keys: Iterable[str]) -> dict[str, Value]:
        """Return the values that are there, by key."""
        from safetensors.numpy import load

        rows = self._select("key, arrays", keys)
        return {key: self.kind(**load(arrays)) for key, arrays in rows}

    def names(self, keys: Iterable[str]) -> set[str]:
        """Return those of some keys whose values are there, without reading them."""
        return {key for (key,) in self._select("key", keys)}

    def _select(self, columns: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        keys, rows = list(keys), []
        with self._connect() as connection:
            for start in range(0, len(keys), KEYS_PER_QUERY):
                some = keys[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                rows += connection.execute(
                    f"SELECT {columns} FROM {self.content} WHERE key IN ({marks})", some
                ).fetchall()
        return rows

    def put(self, values: Mapping[str, Value]) -> None:
        """Add values; those that another process added meanwhile stay as they are."""
        from safetensors.numpy import save

        rows = [(key, save(value.arrays())) for key, value in values.items()]
        with self._connect() as connection:
            connection.executemany(f"INSERT OR IGNORE INTO {self.content} VALUES (?, ?)", rows)


class LayeredCache(Generic[Value]):
    """The memory of this process in front of a folder.

    Parameters
    ----------
    memory : MemoryCache
        Looked up first.
    disk : DiskCache
        Holds afterwards whatever was asked for and found in either.
    """

    def __init__(self, memory: MemoryCache[Value], disk: DiskCache[Value]) -> None:
        self.memory = memory
        self.disk = disk

    def get(self, keys: Iterable[str]) -> dict[str, Value]:
        """Return the values that are there, by key."""
        keys = list(keys)
        found = self.memory.get(keys)
        # Computed before this folder was named: other processes and later runs want them, too.
        absent = found.keys() - self.disk.names(found)
        if absent:
            self.disk.put({key: found[key] for key in absent})
        missing = [key for key in keys if key not in found]
        fetched = self.disk.get(missing) if missing else {}
        self.memory.put(fetched)
        return found | fetched

    def put(self, values: Mapping[str, Value]) -> None:
        """Add values to both."""
        self.memory.put(values)
        self.disk.put(values)


def layered(memory: Any, quick: MemoryCache[Value], disk: type[DiskCache[Value]]) -> Cache[Value]:
    """Return the cache that a parameter ``memory`` asks for.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory
        ``None`` keeps values in this process. A folder, or a joblib ``Memory`` with a location, keeps
        them there as well, for other processes and later runs.
    quick : MemoryCache
        That of this process.
    disk : DiskCache class
        What keeps the values in a folder.

    Returns
    -------
    Cache
        Over ``quick``.

    Raises
    ------
    InvalidParameterError
        If ``memory`` is something else, or an empty text.
    """
    location = getattr(memory, "location", memory)
    if location is None:
        return quick
    if not isinstance(location, str | PathLike) or not os.fspath(location):
        raise InvalidParameterError(
            "'memory' must be None, a folder or a joblib.Memory; '.' is the current folder. Got "
            f"{type(memory).__name__}: {memory!r}."
        )
    return LayeredCache(quick, disk(Path(location)))
