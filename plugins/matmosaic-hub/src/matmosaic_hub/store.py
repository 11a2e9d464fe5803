"""A store of modules behind a URL."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar

from matmosaic.exceptions import StoreError, UnknownNameError
from matmosaic.modules import ModuleCard, PretrainedModule, check_module_name
from matmosaic.modules.summary import ModuleSummary
from matmosaic_hub.cache import Cache, default_folder
from matmosaic_hub.index import CARD_FILE, INDEX_FILE, WEIGHTS_FILE, Entry, Index
from matmosaic_hub.publishing import read_index, update
from matmosaic_hub.reading import OFFLINE, Reader
from matmosaic_hub.remote import Remote
from matmosaic_hub.urls import normalised

#: Seconds for which the index that was read last is taken as that of the hub.
INDEX_AGE = 10.0


class HubStore:
    """Versions of modules in a folder, on S3, on a web server, or wherever else fsspec reaches.

    What is read from elsewhere is kept in a cache on this machine, checked by its sha256, and found
    there without network. A folder of this machine is read as it is, and kept by :meth:`pull` alone.

    Parameters
    ----------
    url : str
        Address of the hub's folder as fsspec takes it, such as ``"s3://bucket/hub"``,
        ``"https://host/hub"``, ``"hf://owner/repository"`` or ``"file:///data/hub"``; one that ends in
        ``.zip`` is a folder in a zip file. Without credentials: those come from the environment or the
        configuration of the storage.
    cache : str or path-like, optional
        Folder of the cache; by default the folder ``hub`` in that of the environment variable
        ``MATMOSAIC_CACHE``, or else in the user's cache.
    offline : bool, default=False
        Use the cache alone, as with the environment variable ``MATMOSAIC_OFFLINE=1``.
    storage_options : mapping, optional
        Options of the fsspec file system, such as ``endpoint_url``. They are never written anywhere.
    timeout : float, default=30.0
        Seconds without an answer, on http and S3, after which the hub counts as stalled.

    Raises
    ------
    InvalidParameterError
        If ``url`` is no URL or carries credentials.

    Examples
    --------
    >>> HubStore("https://example.org/hub/")
    HubStore('https://example.org/hub')
    """

    contract: ClassVar[int] = 1

    def __init__(
        self,
        url: str,
        *,
        cache: str | PathLike[str] | None = None,
        offline: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.url = normalised(url)
        self.offline = offline
        self._cache_folder = cache
        self._remote = Remote(self.url, options=storage_options or {}, timeout=timeout)
        self._caches = not self._remote.is_local
        self._index: Index | None = None
        self._index_time = 0.0

    @property
    def cache(self) -> Cache:
        """The cache on this machine."""
        return Cache(default_folder() if self._cache_folder is None else self._cache_folder)

    # --- listing -------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all modules, sorted; reads the index alone.

        Returns
        -------
        list of str
            The names.

        Raises
        ------
        StoreError
            If the hub cannot be reached and its index is not cached.
        ModuleFormatError
            If its index is malformed.
        """
        return self._read_index().names()

    def versions(self, name: str) -> list[str]:
        """Return the versions of a module; reads the index alone.

        Parameters
        ----------
        name : str
            Name of the module.

        Returns
        -------
        list of str
            In their natural order, 10 after 9; the last one is that of a reference without version.

        Raises
        ------
        UnknownNameError
            If there is no such module.
        """
        self._find(name)
        return self._read_index().versions(name)

    def summary(self, name: str, version: str | None = None) -> ModuleSummary:
        """Return what a listing shows of a module; reads the index alone.

        Parameters
        ----------
        name : str
            Name of the module.
        version : str, optional
            Its version; the last one by default.

        Returns
        -------
        ModuleSummary
            As the index has it; :meth:`card` makes sure that the card says the same.

        Raises
        ------
        UnknownNameError
            If there is no such module or version.
        ModuleFormatError
            If the index lacks it.
        """
        return self._find(name, version).summary(self._read_index().source)

    # --- reading -------------------------------------------------------------------------------------

    def card(self, name: str, version: str | None = None) -> ModuleCard:
        """Return the card of a module without reading its weights.

        Parameters
        ----------
        name : str
            Name of the module.
        version : str, optional
            Its version; the last one by default.

        Returns
        -------
        ModuleCard
            Its card.

        Raises
        ------
        UnknownNameError
            If there is no such module or version.
        CorruptModuleError
            If the card was truncated or altered.
        ModuleFormatError
            If it says something else than the index.
        StoreError
            If it is not cached and cannot be downloaded.
        """
        return self._card(self._find(name, version))[1]

    def load(self, name: str, version: str | None = None) -> PretrainedModule:
        """Return a module after checking its checksum and golden outputs.

        Parameters
        ----------
        name : str
            Name of the module.
        version : str, optional
            Its version; the last one by default.

        Returns
        -------
        PretrainedModule
            The module.

        Raises
        ------
        UnknownNameError
            If there is no such module or version.
        CorruptModuleError
            If a file was truncated or altered, or the golden outputs are not reproduced.
        ModuleFormatError
            If its card says something else than the index.
        StoreError
            If it is not cached and cannot be downloaded.
        """
        entry = self._find(name, version)
        content, _ = self._card(entry)
        contents = {CARD_FILE: content, WEIGHTS_FILE: self._reader.content(entry, WEIGHTS_FILE)}
        # Adapters may need another module of this hub.
        return PretrainedModule.from_files(contents, source=entry.label, siblings=self)

    def pull(self, name: str, version: str | None = None) -> PretrainedModule:
        """Load a module and keep it in the cache, as :meth:`load` does but for folders of this machine.

        A folder may be a drive that is not always there; a module that was pulled from it always is.

        Parameters
        ----------
        name : str
            Name of the module.
        version : str, optional
            Its version; the last one by default.

        Returns
        -------
        PretrainedModule
            The module; raises as :meth:`load` does.
        """
        keeper = copy.copy(self)
        keeper._caches, keeper._index = True, None
        return keeper.load(name, version)

    def _card(self, entry: Entry) -> tuple[bytes, ModuleCard]:
        content = self._reader.content(entry, CARD_FILE)
        card = ModuleCard.from_json(content, source=self._remote.address(entry.path(CARD_FILE)))
        entry.check_card(card, self._read_index().source)
        return content, card

    # --- writing -------------------------------------------------------------------------------------

    def save(self, module: PretrainedModule, *, overwrite: bool = False) -> None:
        """Publish a module under the name on its card.

        Parameters
        ----------
        module : PretrainedModule
            The module.
        overwrite : bool, default=False
            If the name is taken, publish another version of it. Versions that are there stay.

        Raises
        ------
        StoreError
            If the name is taken and ``overwrite`` is False, or as for :meth:`publish`.
        """
        if not overwrite and self._is_taken(module.card.name):
            raise StoreError(
                f"{self.url} holds {module.card.name!r} already; pass overwrite=True to publish another "
                "version, or choose another name."
            )
        self.publish(module)

    def publish(self, module: PretrainedModule) -> bool:
        """Publish a version of a module: readers see all of it or nothing, and it never changes.

        Parameters
        ----------
        module : PretrainedModule
            The module; name and version are those on its card.

        Returns
        -------
        bool
            False if the hub has just this version already, so that nothing was done. Files of it that were
            lost are written again.

        Raises
        ------
        InvalidParameterError
            If its version cannot be part of a path.
        StoreError
            If the hub has other content under this version, is read-only, or cannot be written.
        """
        self._check_writable()
        contents = module.to_files()
        entry = Entry.of(module, contents)
        known = self._present_index()
        is_known = known.with_entry(entry) is known
        written = [  # invisible until the index names them
            self._write(entry.path(name), contents[name], unless_there=is_known)
            for name in (WEIGHTS_FILE, CARD_FILE)
        ]
        if not is_known:
            self._set_index(update(self._remote, lambda index: index.with_entry(entry)))
        return any(written)

    def _write(self, path: str, content: bytes, *, unless_there: bool) -> bool:
        if unless_there and self._remote.size(path) == len(content):
            return False
        self._remote.write(path, content)
        return True

    def _present_index(self) -> Index:
        """Return the index as it is in the hub, never one that is cached."""
        return read_index(self._remote) or Index({}, source=self._remote.address(INDEX_FILE))

    def _is_taken(self, name: str) -> bool:
        return check_module_name(name) in self._present_index().names()

    def _check_writable(self) -> None:
        if self.is_offline and self._remote.needs_network:
            raise StoreError(f"{self.url} cannot be written offline; unset {OFFLINE}.")
        if not self._remote.is_writable:
            raise StoreError(
                f"{self.url} is read-only: nothing can be written by {self._remote.protocol!r}; publish to "
                "the folder or bucket that is served there."
            )

    # --- the index -----------------------------------------------------------------------------------

    @property
    def is_offline(self) -> bool:
        """Whether the network is not used, by the constructor or the environment."""
        return self.offline or os.environ.get(OFFLINE, "").lower() not in ("", "0", "false", "no")

    def _find(self, name: str, version: str | None = None) -> Entry:
        check_module_name(name)
        try:
            return self._read_index().find(name, version)
        except UnknownNameError:  # it may have been published since
            return self._read_index(fresh=True).find(name, version)

    def _read_index(self, *, fresh: bool = False) -> Index:
        if self._index is None or fresh or time.monotonic() - self._index_time > INDEX_AGE:
            self._set_index(self._reader.index())
        assert self._index is not None
        return self._index

    def _set_index(self, index: Index) -> None:
        self._index, self._index_time = index, time.monotonic()

    @property
    def _reader(self) -> Reader:
        return Reader(self._remote, cache=self.cache, offline=self.is_offline, caches=self._caches)

    def __repr__(self) -> str:
        return f"HubStore({self.url!r})"
