"""Files of hubs on this machine: found by the checksum of their content, downloaded once, checked always."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from matmosaic.exceptions import CorruptModuleError, StoreError
from matmosaic_hub.index import File
from matmosaic_hub.remote import RangeRefusedError, Remote, write_atomically

logger = logging.getLogger(__name__)

#: Environment variable that names another folder for all that is cached.
VARIABLE = "MATMOSAIC_CACHE"

#: Seconds to wait while another process downloads the same file.
LOCK_TIMEOUT = 3600.0

_ATTEMPTS = 2


def default_folder() -> Path:
    """Return the folder of the user's cache."""
    chosen = os.environ.get(VARIABLE)
    return (Path(chosen) if chosen else platformdirs.user_cache_path("matmosaic", appauthor=False)) / "hub"


class Cache:
    """A folder with files by their sha256, and the last index of each hub.

    Any number of processes may use one cache at once. A file that was altered is removed when it is read.

    Parameters
    ----------
    folder : str or path-like
        The folder; it is made when something is kept.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()

    def place(self, file: File) -> Path:
        """Return where a file lies, or is to be put by hand."""
        return self.folder / "blobs" / file.sha256[:2] / file.sha256

    def index_place(self, url: str) -> Path:
        """Return where the last index of a hub lies."""
        return self.folder / "indexes" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"

    def find(self, file: File) -> bytes | None:
        """Return the content of a file that is cached; None, and no file any more, if it was altered.

        The checksum alone decides: what is cached may be of another hub than the one whose index says
        something else about the size.
        """
        place = self.place(file)
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s cannot be read and is left out: %s", place, error)
            return None
        if has(content, file):
            return content
        logger.warning("%s was altered; it is removed if the cache can be written.", place)
        with contextlib.suppress(OSError):
            place.unlink()
        return None

    def fetch(self, remote: Remote, path: str, file: File) -> bytes:
        """Return the content of a file, from the cache or else from a hub.

        An interrupted download is continued, by this call or a later one. What arrives altered or
        truncated is removed and asked for once more.

        Raises
        ------
        CorruptModuleError
            If it arrives altered or truncated again.
        FileNotFoundError
            If the hub does not have it.
        StoreError
            If it cannot be downloaded.
        """
        with self._reporting(), self._locked(file):
            content = self.find(file)
            return self._download(remote, path, file) if content is None else content

    def keep_index(self, url: str, content: bytes) -> None:
        """Keep the index of a hub for when the hub cannot be reached, if the cache can be written."""
        place = self.index_place(url)
        try:
            if not place.is_file() or place.read_bytes() != content:
                write_atomically(place, content)
        except OSError as error:
            logger.warning("The index of %s is not kept: the cache cannot be written (%s).", url, error)

    # --- downloading ---------------------------------------------------------------------------------

    def _download(self, remote: Remote, path: str, file: File) -> bytes:
        part = self.place(file).with_suffix(".part")
        self._check_space(file)
        logger.info("Downloading %s (%s).", remote.address(path), megabytes(file.size))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _append(remote, path, file, part)
            except (StoreError, OSError) as error:
                if attempt == _ATTEMPTS or isinstance(error, FileNotFoundError):
                    raise
                logger.info("The download was interrupted and is continued: %s", error)
                continue
            content = part.read_bytes()
            if has(content, file):
                part.replace(self.place(file))
                return content
            part.unlink()
        raise CorruptModuleError(
            f"{remote.address(path)} arrived truncated or altered, {_ATTEMPTS} times: expected "
            f"{file.size:,} bytes with sha256 {file.sha256}, got {len(content):,} bytes with "
            f"{hashlib.sha256(content).hexdigest()}. It was removed; tell the hub's owner."
        )

    def _check_space(self, file: File) -> None:
        folder = self.place(file).parent
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < file.size:
            raise StoreError(
                f"{megabytes(file.size)} do not fit into the cache {self.folder}, where {megabytes(free)} "
                f"are free; make room, or choose another folder by the environment variable {VARIABLE}."
            )

    @contextlib.contextmanager
    def _locked(self, file: File) -> Iterator[None]:
        place = self.folder / "locks" / f"{file.sha256}.lock"
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(place, timeout=LOCK_TIMEOUT).acquire()
        except Timeout as error:
            raise StoreError(
                f"Another process holds {place} since more than {LOCK_TIMEOUT:g} s; try again when it has "
                "finished its download."
            ) from error
        with lock:
            yield

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except OSError as error:
            raise StoreError(
                f"The cache {self.folder} cannot be used ({error}); check its permissions and free space, or "
                f"choose another folder by the environment variable {VARIABLE}."
            ) from error

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r})"


def has(content: bytes, file: File) -> bool:
    """Return whether this is the content of a file, by its checksum."""
    return hashlib.sha256(content).hexdigest() == file.sha256


def megabytes(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size:,} bytes"


def _append(remote: Remote, path: str, file: File, part: Path) -> None:
    """Download what is missing of a file; one byte more than expected tells a longer one."""
    stop = file.size + 1
    with part.open("ab") as stream:
        start = stream.tell()
        if start >= stop or start == file.size:
            return
        try:
            for content in remote.chunks(path, start=start, stop=stop):
                stream.write(content[: stop - stream.tell()])
        except RangeRefusedError:
            stream.truncate(0)
            raise
        stream.flush()
        os.fsync(stream.fileno())
