"""Read and write the directory of a module so that nobody ever sees half of it.

A writer holds a lock file beside the directory, writes into a hidden sibling, moves a replaced
version aside and the new one into place. A crash leaves the old module, the new one, or, for the
instant between two renames, the old one aside: the next reader or writer moves it back.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock

from matmosaic.exceptions import ModuleFormatError, StoreError, UnknownNameError

#: The two files of a module.
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"

#: Beside them, makes the directory a saved mixture of several networks, which is no module.
EXPERTS_FILE = "experts.json"

#: Beside them, makes the directory a saved probe, which is no module either.
SOURCES_FILE = "sources.json"

_ESTIMATORS = {EXPERTS_FILE: ("MoERegressor", "mixes"), SOURCES_FILE: ("ProbeRegressor", "reads")}

LOCK_FILE = ".matmosaic.lock"
LOCK_TIMEOUT = 60.0  # seconds
_NEW = ".matmosaic-new-"
_OLD = ".matmosaic-old-"
_ATTEMPTS = 10
_RENAME_ATTEMPTS = 5


def is_module(directory: Path) -> bool:
    """Return whether a directory holds a module."""
    return _is_written(directory) and not any((directory / name).is_file() for name in _ESTIMATORS)


def check_no_mixture(directory: Path) -> None:
    """Raise ModuleFormatError if a directory holds a saved estimator, of which no card of a module tells."""
    for name, (estimator, modules) in _ESTIMATORS.items():
        if (directory / name).is_file():
            raise ModuleFormatError(
                f"{directory} holds a saved {estimator}, which is no module: load it with "
                f"matmosaic.estimators.load_estimator, or name the modules that it {modules}."
            )


def module_names(parent: Path) -> list[str]:
    """Return the sorted names of the modules in a directory, one being replaced included."""
    for _ in range(_ATTEMPTS):
        entries = [entry for entry in parent.iterdir() if not entry.name.startswith(_NEW)]
        modules = [entry for entry in entries if is_module(entry)]
        others = [entry for entry in entries if entry not in modules]
        if not any(is_module(entry) or not entry.exists() for entry in others):
            break  # else a writer renamed one after it was listed: look again
    asides = {_name_aside(entry) for entry in modules if entry.name.startswith(_OLD)}
    return sorted(asides.union(entry.name for entry in modules if not entry.name.startswith(".")))


def read_files(directory: Path, names: Iterable[str] | None = (CARD_FILE, WEIGHTS_FILE)) -> dict[str, bytes]:
    """Return the content of a module's files, all of one version of the module.

    Parameters
    ----------
    directory : Path
        Directory of the module.
    names : iterable of str or None, default=both files
        Files to read; None for all.

    Returns
    -------
    dict of str to bytes
        Content by file name.

    Raises
    ------
    FileNotFoundError
        If there is no such module.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            before = (directory / CARD_FILE).read_bytes()
            wanted = _written_names(directory) if names is None else names
            contents = {name: (directory / name).read_bytes() for name in wanted}
            if (directory / CARD_FILE).read_bytes() == before:
                return contents
            continue  # a writer replaced the module between two reads
        if not _reappears(directory):
            break
    wanted = (CARD_FILE, *(names or ()))
    missing = next((name for name in wanted if not (directory / name).is_file()), CARD_FILE)
    raise FileNotFoundError(f"{directory / missing} does not exist")


def read_module(directory: Path, names: Iterable[str] = (CARD_FILE, WEIGHTS_FILE)) -> dict[str, bytes]:
    """Return what :func:`read_files` does, or raise an error for users."""
    check_no_mixture(directory)
    try:
        return read_files(directory, names)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not directory.exists():
            raise UnknownNameError(f"There is no module at {directory}; check the path.") from error
        raise ModuleFormatError(
            f"{directory} is no module, that is, a directory with {CARD_FILE} and {WEIGHTS_FILE}: {error}."
        ) from error
    except OSError as error:
        raise StoreError(f"Module {directory} cannot be read ({error}); check its permissions.") from error


def write_files(directory: Path, contents: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write the directory of a module or of a saved estimator, all or nothing.

    Parameters
    ----------
    directory : Path
        Directory of the module.
    contents : mapping of str to bytes
        Content by file name.
    overwrite : bool
        Whether to replace a module that is there.

    Raises
    ------
    StoreError
        If something else, or without ``overwrite`` a module, is there, or if writing fails.
    """
    with _reporting(f"Module {directory} was not saved"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory.parent):
            tidy(directory.parent)
            _check_replaceable(directory, overwrite=overwrite)
            _publish(_stage(directory, contents), directory)


def tidy(parent: Path) -> None:
    """Remove what killed writers left behind; call it with the lock held."""
    for leftover in parent.glob(f"{_NEW}*"):
        _discard(leftover)
    for aside in parent.glob(f"{_OLD}*"):
        directory = parent / _name_aside(aside)
        if directory.exists():
            _discard(aside)
        else:
            _rename(aside, directory)


def _reappears(directory: Path) -> bool:
    """Return whether to look again for a module that was not found, having been moved aside."""
    if _is_aside(directory):
        with _reporting(f"Module {directory} cannot be restored"), _locked(directory.parent):
            tidy(directory.parent)
    return _is_written(directory) or _is_aside(directory)


def _is_written(directory: Path) -> bool:
    """Return whether a directory was written here: that of a module or of a saved estimator."""
    return (directory / CARD_FILE).is_file()


def _is_aside(directory: Path) -> bool:
    return any(directory.parent.glob(f"{_OLD}{glob.escape(directory.name)}~*"))


def _name_aside(aside: Path) -> str:
    return aside.name.removeprefix(_OLD).rpartition("~")[0]


@contextlib.contextmanager
def _reporting(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{what} ({error}). Check free space and permissions, or choose another place."
        ) from error


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[None]:
    try:
        lock = FileLock(parent / LOCK_FILE, timeout=LOCK_TIMEOUT).acquire()
    except TimeoutError as error:
        raise StoreError(
            f"{parent} is locked by another process since more than {LOCK_TIMEOUT:g} s; "
            "try again when that process has finished."
        ) from error
    with lock:
        yield


def _check_replaceable(directory: Path, *, overwrite: bool) -> None:
    """Replace an empty directory, or with ``overwrite`` a module; never anything of the user's."""
    if not directory.exists():
        return
    entries = list(directory.iterdir()) if directory.is_dir() else [directory]
    foreign = sorted(entry.name for entry in entries if not _is_ours(entry))
    if foreign or (entries and not _is_written(directory)):
        found = foreign[:5] or [entry.name for entry in entries]
        raise StoreError(f"{directory} is no module: it holds {found}; choose another place.")
    if entries and not overwrite:
        held = "module" if is_module(directory) else "saved estimator"
        raise StoreError(f"{directory} already holds a {held}; pass overwrite=True or choose another name.")


def _written_names(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir() if _is_ours(entry)]


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.suffix in (".json", ".safetensors")


def _stage(directory: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the files into a new hidden directory and make sure that they are on the disk."""
    staged = directory.with_name(f"{_NEW}{directory.name}~{secrets.token_hex(4)}")
    staged.mkdir()
    try:
        for name, content in contents.items():
            _write(staged / name, content)
        _sync_directory(staged)
    except BaseException:
        _discard(staged)
        raise
    return staged


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(staged: Path, directory: Path) -> None:
    """Put the new version into place; a directory cannot be renamed over one that is not empty."""
    aside = directory.with_name(f"{_OLD}{directory.name}~{secrets.token_hex(4)}")
    try:
        if directory.exists():
            _rename(directory, aside)
        _rename(staged, directory)
    except BaseException:
        tidy(directory.parent)
        raise
    _sync_directory(directory.parent)
    _discard(aside)


def _rename(source: Path, target: Path) -> None:
    for attempt in range(_RENAME_ATTEMPTS):
        try:
            source.rename(target)
            return
        except PermissionError:  # on Windows, while somebody reads a file in it
            if attempt == _RENAME_ATTEMPTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot open directories; its renames are journalled
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
