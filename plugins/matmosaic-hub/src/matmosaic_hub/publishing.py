"""Replace the index of a hub without losing what others publish at the same time.

Each storage has its own means: on this machine a lock file and a rename, on S3 a conditional PUT that
fails if the index has changed since it was read, elsewhere a lock object. Decision 0018 says what each
of them promises.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from matmosaic.exceptions import StoreError
from matmosaic_hub.index import INDEX_FILE, LIMITS, Index
from matmosaic_hub.remote import Remote, status_of

#: Seconds to wait for others who publish.
TIMEOUT = 60.0

#: Seconds after which a lock object that was just written is read again, to see whose it is.
SETTLING = 1.0

LOCK_FILE = ".index.lock"
LOCK_OBJECT = "index.lock"

_CONDITIONAL = {"s3", "s3a"}
_threads = threading.Lock()

Change = Callable[[Index], Index]


def update(remote: Remote, change: Change) -> Index:
    """Replace the index of a hub by a changed one.

    Parameters
    ----------
    remote : Remote
        The hub.
    change : callable
        Given the present index, returns the new one, or the same to leave it. It may be called several
        times.

    Returns
    -------
    Index
        The index as it is then in the hub.

    Raises
    ------
    StoreError
        If it cannot be written, if others keep publishing for too long, or if ``change`` raises it.
    """
    if remote.is_local:
        return _update_locally(remote, change)
    if remote.protocol in _CONDITIONAL:
        return _update_conditionally(remote, change)
    if remote.protocol == "memory":
        with _threads:
            return _replace(remote, change)
    return _update_with_lock_object(remote, change)


def read_index(remote: Remote) -> Index | None:
    """Return the index of a hub, None if there is none."""
    try:
        content = remote.read(INDEX_FILE, limit=LIMITS[INDEX_FILE])
    except FileNotFoundError:
        return None
    return Index.from_bytes(content, source=remote.address(INDEX_FILE))


def _replace(remote: Remote, change: Change, **conditions: str) -> Index:
    before = read_index(remote) or Index({}, source=remote.address(INDEX_FILE))
    after = change(before)
    if after is not before:
        content = after.to_bytes()
        if len(content) > LIMITS[INDEX_FILE]:
            raise StoreError(f"{before.source} would become larger than readers accept; begin another hub.")
        remote.write(INDEX_FILE, content, **conditions)
    return after


def _update_locally(remote: Remote, change: Change) -> Index:
    remote.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(remote.folder / LOCK_FILE, timeout=TIMEOUT):
            return _replace(remote, change)
    except Timeout as error:
        raise StoreError(
            f"{remote.url} is locked by another process since more than {TIMEOUT:g} s; try again when that "
            "process has finished."
        ) from error


def _update_conditionally(remote: Remote, change: Change) -> Index:
    deadline = time.monotonic() + TIMEOUT
    while True:
        # The tag is read first: if the index is replaced before it is read, the tag is not that of what is
        # read, and the PUT fails.
        tag = remote.tag(INDEX_FILE)
        try:
            return _replace(remote, change, **({"IfMatch": tag} if tag else {"mode": "create"}))
        except StoreError as error:
            if not _is_conflict(error):
                raise
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{remote.url} was changed by others each time for {TIMEOUT:g} s; try again later."
                ) from error
        time.sleep(random.uniform(0.0, 0.2))


def _is_conflict(error: BaseException | None) -> bool:
    """Return whether S3 said that the index had changed: 412, or 409 while somebody was writing it."""
    if status_of(error) in (409, 412):
        return True
    while error is not None and not isinstance(error, FileExistsError):
        error = error.__cause__
    return error is not None


# --- elsewhere ---------------------------------------------------------------------------------------


def _update_with_lock_object(remote: Remote, change: Change) -> Index:
    owner = _lock(remote)
    try:
        after = _replace(remote, change)
        found = read_index(remote) or Index({}, source=after.source)
    finally:
        if _owner(remote) == owner:
            remote.delete(LOCK_OBJECT)
    if found.to_bytes() != after.to_bytes():
        raise StoreError(
            f"{remote.url} was changed by another process at the same moment; publish again, and let one "
            f"process at a time publish by {remote.protocol!r}."
        )
    return after


def _lock(remote: Remote) -> str:
    """Create the lock object, exclusively where the file system can, and make sure that it is ours."""
    owner = json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(8),
        }
    )
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() <= deadline:
        if _owner(remote) is None and _created(remote, owner):
            return owner
        time.sleep(random.uniform(0.2, 0.6))
    raise StoreError(
        f"{remote.url} is locked since more than {TIMEOUT:g} s by {_owner(remote)}; if that process is not "
        f"running any more, delete {remote.address(LOCK_OBJECT)}."
    )


def _created(remote: Remote, owner: str) -> bool:
    try:
        remote.write(LOCK_OBJECT, owner.encode(), mode="create")
    except StoreError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        raise
    time.sleep(SETTLING)
    return _owner(remote) == owner


def _owner(remote: Remote) -> str | None:
    try:
        return remote.read(LOCK_OBJECT, limit=4096).decode(errors="replace")
    except FileNotFoundError:
        return None
