"""The files of a hub, read and written through fsspec, with limits on size and time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from matmosaic.exceptions import MatmosaicError, ModuleFormatError, PluginError, StoreError
from matmosaic_hub.urls import is_secret, protocols, redact

#: Bytes that are asked for at once; an interrupted download loses less than these.
CHUNK = 4 << 20

_HTTP = {"http", "https"}
_LOCAL = {"file", "local"}
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs"}
_READ_ONLY = {*_HTTP, "zip", "tar", "libarchive", "github", "git", "data"}
_RANGE_REFUSED = 416
# What aiohttp adds to its messages, after the address that ours begin with.
_ADDRESS = re.compile(r", url=('[^']*'|\"[^\"]*\")")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf", "http": "http", "https": "http"}


class RangeRefusedError(StoreError):
    """There is nothing behind the bytes of a file that are here already: they are not those of that file."""


class Remote:
    """Files below a URL.

    Parameters
    ----------
    url : str
        Normalised address of the folder.
    options : mapping
        Options of its fsspec file system.
    timeout : float
        Seconds without an answer after which the other side counts as stalled.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any], timeout: float) -> None:
        self.url = url
        self._options = dict(options)
        self._timeout = timeout
        self._protocols = protocols(url)

    @property
    def protocol(self) -> str:
        """Protocol of the folder itself."""
        return self._protocols[0]

    @property
    def is_local(self) -> bool:
        """Whether the folder is one of this machine, which is read without a cache."""
        return self.protocol in _LOCAL

    @property
    def needs_network(self) -> bool:
        """Whether the files, or the archive that holds them, are elsewhere than on this machine."""
        return self._protocols[-1] not in {*_LOCAL, "memory"}

    @property
    def is_writable(self) -> bool:
        """Whether anything can be written by this protocol."""
        return self.protocol not in _READ_ONLY

    @property
    def folder(self) -> Path:
        """The folder of a local hub."""
        return Path(self.path(""))

    def path(self, relative: str) -> str:
        """Return a file's path as the file system takes it."""
        return f"{self._root}/{relative}" if self._root else relative

    def address(self, relative: str) -> str:
        """Return a file's address as users are shown it."""
        outer, chained, rest = self.url.partition("::")
        return f"{outer.rstrip('/') if outer[-3:] != '://' else outer}/{relative}{chained}{rest}"

    # --- reading -------------------------------------------------------------------------------------

    def read(self, relative: str, *, limit: int) -> bytes:
        """Return a small file's content.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModuleFormatError
            If it is larger than ``limit`` bytes.
        StoreError
            If it cannot be read.
        """
        with self.reporting(f"{self.address(relative)} cannot be read"):
            content = b"".join(self._few_chunks(relative, limit + 1))
        if len(content) > limit:
            raise ModuleFormatError(
                f"{self.address(relative)} is larger than the {limit:,} bytes that are read at most; "
                "do not trust this hub before its owner has explained it."
            )
        return content

    def _few_chunks(self, relative: str, stop: int) -> Iterator[bytes]:
        if self.protocol in _HTTP:
            yield from self._stream(relative, start=0, stop=stop)
        else:
            yield self.fs.cat_file(self.path(relative), start=0, end=stop)

    def chunks(self, relative: str, *, start: int, stop: int) -> Iterator[bytes]:
        """Yield the content of a file from byte ``start`` on, up to about byte ``stop``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        RangeRefusedError
            If the file has no byte ``start``.
        StoreError
            If reading fails; what was yielded until then may be kept. The message names the file without its
            address.
        """
        with self.reporting(f"Reading {relative.rpartition('/')[2]} failed"):
            if self.protocol in _HTTP:
                yield from self._stream(relative, start=start, stop=stop)
            else:
                yield from self._ranges(relative, start=start, stop=stop)

    def _ranges(self, relative: str, *, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            # The last byte is asked for with others: alone it may lie behind the end, which S3 refuses.
            end = stop if stop - start <= CHUNK + 1 else start + CHUNK
            content = self.fs.cat_file(self.path(relative), start=start, end=end)
            yield content
            if len(content) < end - start:
                return
            start += len(content)

    def _stream(self, relative: str, *, start: int, stop: int) -> Iterator[bytes]:
        """Read as much as is wanted of an answer of unknown length; `cat_file` would read it to its end."""
        headers = {"Accept-Encoding": "identity", **self.fs.kwargs.get("headers", {})}
        if start:
            headers["Range"] = f"bytes={start}-"
        # A size, any, saves the request for it; a block size of 0 asks for a stream.
        with self.fs.open(self.path(relative), "rb", block_size=0, size=1, headers=headers) as file:
            position = start if file.r.status == 206 else 0  # else the server ignores ranges
            while position < stop and (content := file.read(CHUNK)):
                yield content[max(start - position, 0) :]
                position += len(content)

    # --- writing -------------------------------------------------------------------------------------

    def write(self, relative: str, content: bytes, **conditions: str) -> None:
        """Write a file: on this machine and in object stores, all or nothing."""
        with self.reporting(f"{self.address(relative)} cannot be written", writing=True):
            if self.is_local:
                write_atomically(Path(self.path(relative)), content)
                return
            try:
                self.fs.pipe_file(self.path(relative), content, **conditions)
            except FileNotFoundError as error:
                if self.protocol in _OBJECT_STORES:
                    raise StoreError(f"The bucket of {self.url} is not there; make it first.") from error
                self.fs.makedirs(self.path(relative).rpartition("/")[0], exist_ok=True)
                self.fs.pipe_file(self.path(relative), content, **conditions)

    def size(self, relative: str) -> int | None:
        """Return the bytes that a file has; None without the file."""
        try:
            with self.reporting(f"{self.address(relative)} cannot be read"):
                self.fs.invalidate_cache()
                return int(self.fs.info(self.path(relative))["size"])
        except FileNotFoundError:
            return None

    def delete(self, relative: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self.reporting(f"{self.address(relative)} is kept"):
            self.fs.rm_file(self.path(relative))

    def tag(self, relative: str) -> str | None:
        """Return the entity tag that an object store gave to a file's content; None without the file."""
        try:
            with self.reporting(f"{self.address(relative)} cannot be read"):
                return str(self.fs.info(self.path(relative), refresh=True)["ETag"])
        except FileNotFoundError:
            return None

    # --- the file system -----------------------------------------------------------------------------

    @cached_property
    def fs(self) -> Any:
        """The file system; making it may already open the zip file that the hub is."""
        return self._opened[0]

    @cached_property
    def _root(self) -> str:
        return self._opened[1].rstrip("/")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        options = {**_timeouts(self._protocols[-1], self._timeout), **self._options}
        if len(self._protocols) > 1:
            options = {self._protocols[-1]: options}
        with self.reporting(f"{self.url} cannot be opened"):
            try:
                fs, root = fsspec.core.url_to_fs(
                    self.url, skip_instance_cache=self.protocol == "zip", **options
                )
            except FileNotFoundError as error:
                raise StoreError(f"{self.url} is not there; check the address.") from error
        return fs, root

    @contextlib.contextmanager
    def reporting(self, what: str, *, writing: bool = False) -> Iterator[None]:
        """Turn whatever a file system raises into errors for users, without credentials.

        That a file is not there is an answer, and goes through, but for when one is written.
        """
        try:
            yield
        except MatmosaicError:
            raise
        except ImportError as error:
            extra = _EXTRAS.get(self._protocols[-1])
            remedy = f"pip install 'matmosaic-hub[{extra}]'" if extra else "install what the message names"
            raise PluginError(f"{what}: {redact(str(error))}. {remedy}.") from error
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise
            # A chained error would show what the message leaves out.
            is_harmless = self._redacted(str(error)) == str(error)
            raise self._reported(what, error) from (error if is_harmless else None)

    def _reported(self, what: str, error: Exception) -> StoreError:
        cause = _ADDRESS.sub("", self._redacted(f"{type(error).__name__}: {error}"))
        kind = RangeRefusedError if status_of(error) == _RANGE_REFUSED else StoreError
        return kind(f"{what} ({cause}). Check the address, the network and your access rights.")

    def _redacted(self, text: str) -> str:
        for name, value in self._options.items():
            if is_secret(name) and isinstance(value, str) and value:
                text = text.replace(value, "***")
        return redact(text)


def status_of(error: BaseException | None) -> int | None:
    """Return the status with which a server answered, of an error of aiohttp or botocore or one it caused."""
    while error is not None:
        answer = getattr(error, "response", None)
        metadata = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
        status = getattr(error, "status", None) or metadata.get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file of this machine so that readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _timeouts(protocol: str, seconds: float) -> dict[str, Any]:
    if protocol in _HTTP:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        # From the environment come proxies and, from ~/.netrc, user names and passwords.
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    if protocol in {"s3", "s3a"}:
        return {"config_kwargs": {"connect_timeout": seconds, "read_timeout": seconds}}
    return {}
