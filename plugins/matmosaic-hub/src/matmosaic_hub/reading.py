"""What is read of a hub comes from the hub, or from the cache if that has it or the hub is not there."""

from __future__ import annotations

import logging

from matmosaic.exceptions import CorruptModuleError, ModuleFormatError, StoreError
from matmosaic_hub.cache import VARIABLE, Cache, has, megabytes
from matmosaic_hub.index import INDEX_FILE, LIMITS, Entry, Index
from matmosaic_hub.remote import Remote

logger = logging.getLogger(__name__)

#: Environment variable that forbids the network.
OFFLINE = "MATMOSAIC_OFFLINE"


class Reader:
    """Reads the index and the files of a hub.

    Parameters
    ----------
    remote : Remote
        The hub.
    cache : Cache
        The cache on this machine.
    offline : bool
        Read hubs that are elsewhere from the cache alone.
    caches : bool
        Keep what is read in the cache, and take from there what it has. Otherwise the hub is asked first,
        and the cache serves while the hub cannot be reached.
    """

    def __init__(self, remote: Remote, *, cache: Cache, offline: bool, caches: bool) -> None:
        self.remote = remote
        self.cache = cache
        self.caches = caches
        self._uses_cache_alone = offline and remote.needs_network

    # --- the index -----------------------------------------------------------------------------------

    def index(self) -> Index:
        """Return the index of the hub, or else the last one that was kept.

        Raises
        ------
        StoreError
            If there is neither.
        ModuleFormatError
            If it is refused.
        """
        url = self.remote.url
        by_hand = f"put {self.remote.address(INDEX_FILE)} at {self.cache.index_place(url)} by hand."
        if self._uses_cache_alone:
            index = self._cached_index()
            if index is None:
                raise StoreError(
                    f"The index of {url} is not cached, and the network is not to be used. Unset {OFFLINE}, "
                    f"or {by_hand}"
                )
            return index
        try:
            return self._present_index()
        except FileNotFoundError:
            return self._last_index(
                f"There is no hub at {url}: it has no {INDEX_FILE}. Check the address, or push a first "
                "module to it."
            )
        except StoreError as error:
            hint = f" To use it without network, {by_hand}" if self.remote.needs_network else ""
            return self._last_index(str(error), hint=hint)

    def _present_index(self) -> Index:
        source = self.remote.address(INDEX_FILE)
        content = self.remote.read(INDEX_FILE, limit=LIMITS[INDEX_FILE])
        if self.remote.needs_network and _is_web_page(content):
            raise StoreError(
                f"{source} is a web page and no index: this is no hub's answer. Networks that want you to "
                "log in answer so, and servers that do not know the address."
            )
        index = Index.from_bytes(content, source=source)  # what is refused is not kept
        if self.caches:
            self.cache.keep_index(self.remote.url, content)
        return index

    def _last_index(self, problem: str, *, hint: str = "") -> Index:
        index = self._cached_index()
        if index is None:
            raise StoreError(f"{problem}{hint}") from None
        logger.warning("%s Going on with its index as it was when it was reached last.", problem)
        return index

    def _cached_index(self) -> Index | None:
        place = self.cache.index_place(self.remote.url)
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{place} cannot be read ({error}); check its permissions.") from error
        return Index.from_bytes(content, source=f"{place} [cached index of {self.remote.url}]")

    # --- the files -----------------------------------------------------------------------------------

    def content(self, entry: Entry, name: str) -> bytes:
        """Return the content of a file, checked.

        Raises
        ------
        CorruptModuleError
            If it was truncated or altered.
        ModuleFormatError
            If the index has another size for a file of this checksum.
        StoreError
            If it can be had from nowhere.
        """
        file = entry.files[name]
        content = self._by_cache(entry, name) if self.caches else self._directly(entry, name)
        if len(content) != file.size:
            raise ModuleFormatError(
                f"{self.remote.address(INDEX_FILE)} lists {entry.label!r} with a {name} of {file.size:,} "
                f"bytes, but what has its sha256 has {len(content):,}; do not trust this hub before its "
                "owner has explained it."
            )
        return content

    def _by_cache(self, entry: Entry, name: str) -> bytes:
        content = self.cache.find(entry.files[name])
        if content is not None:
            return content
        if self._uses_cache_alone:
            raise self._missing(entry, "is not cached, and the network is not to be used.")
        try:
            return self.cache.fetch(self.remote, entry.path(name), entry.files[name])
        except FileNotFoundError:
            raise self._gone(entry, name) from None
        except StoreError as error:
            raise self._missing(entry, f"cannot be downloaded. {error}") from error

    def _directly(self, entry: Entry, name: str) -> bytes:
        file, path = entry.files[name], entry.path(name)
        try:
            content = self.remote.read(path, limit=file.size)
        except (FileNotFoundError, StoreError) as error:
            kept = self.cache.find(file)
            if kept is None:
                raise (self._gone(entry, name) if isinstance(error, FileNotFoundError) else error) from None
            return kept
        if not has(content, file):
            raise CorruptModuleError(
                f"{self.remote.address(path)} was truncated or altered: expected {file.size:,} bytes with "
                f"sha256 {file.sha256}, got {len(content):,} others. Restore it from its origin."
            )
        return content

    def _gone(self, entry: Entry, name: str) -> StoreError:
        return StoreError(
            f"{self.remote.address(INDEX_FILE)} lists {entry.label!r}, but there is no "
            f"{self.remote.address(entry.path(name))}; tell the hub's owner."
        )

    def _missing(self, entry: Entry, reason: str) -> StoreError:
        """Return an error that names all files of a module that are not cached: one is of no use alone."""
        missing = " and ".join(
            f"{self.remote.address(entry.path(name))} ({megabytes(file.size)}) at {self.cache.place(file)}"
            for name, file in entry.files.items()
            if self.cache.find(file) is None
        )
        return StoreError(
            f"{entry.label!r} {reason} To have it without network, put {missing} by hand, or set {VARIABLE} "
            "to a cache that has it."
        )


def _is_web_page(content: bytes) -> bool:
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
