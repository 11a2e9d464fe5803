"""Read PyTorch checkpoints of other projects without running anything that they contain."""

from __future__ import annotations

import argparse
import io
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matmosaic.exceptions import CorruptModuleError, DataFileError, UnsafeFileError

# The original code stores some figures as numpy scalars and may store its command line as a
# Namespace. Neither class runs anything when it is rebuilt, and torch refuses both by default.
# numpy moved its ``core`` package, so files know ``scalar`` by either name.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


class Ignored:
    """What stands for an object of a file that is not needed; neither making nor filling it does anything."""

    def __new__(cls, *_: Any) -> Ignored:
        """Make one, whatever the file makes the object of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget what the file says about it."""


# Optimizers and schedules that older code saved as objects, down to functions of theirs.
_PASSED_OVER = [
    *("getattr", "builtins.getattr", "__builtin__.getattr"),
    *("dict", "builtins.dict", "__builtin__.dict"),
    *(f"torch.optim.lr_scheduler.{name}" for name in ("OneCycleLR", "LambdaLR", "StepLR")),
    *(f"torch.optim.{file}.{name}" for file, name in (("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD"))),
]
#: Names that a file may hold besides harmless ones, and what stands for them.
TRAINING_STATE: list[Any] = [(Ignored, name) for name in _PASSED_OVER]

# How torch names what it refused to call; the rest of its message advises to call it after all.
_REFUSED = re.compile(r"GLOBAL (\S+)")
_UNSUPPORTED = re.compile(r"(?:Can only|Trying to) .*")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, with tensors on the CPU.

    Parameters
    ----------
    path : Path
        File written by ``torch.save``.

    Returns
    -------
    dict
        The checkpoint.

    Raises
    ------
    UnsafeFileError
        If rebuilding the content would call anything but a few harmless classes; nothing was
        called.
    CorruptModuleError
        If the file is truncated or no checkpoint.
    DataFileError
        If there is no such file.
    """
    return unpack_checkpoint(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, or raise DataFileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataFileError(f"Checkpoint {path} cannot be read ({error}); check the path.") from error


def unpack_checkpoint(content: bytes, source: str, *, ignored: Iterable[Any] = ()) -> dict[str, Any]:
    """Return a checkpoint from the content of its file, with tensors on the CPU.

    Parameters
    ----------
    content : bytes
        What ``torch.save`` wrote.
    source : str
        Where it is from, for messages.
    ignored : iterable, optional
        Names that are allowed besides harmless ones, such as :data:`TRAINING_STATE`.

    Returns
    -------
    dict
        The checkpoint.

    Raises
    ------
    UnsafeFileError, CorruptModuleError
        As of :func:`read_checkpoint`.
    """
    try:
        with torch.serialization.safe_globals([*_HARMLESS, *ignored]):
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(source, error) from error
    except Exception as error:  # whatever truncated bytes make the reader raise
        raise _damaged(source) from error
    if not isinstance(checkpoint, dict):
        raise CorruptModuleError(
            f"{source} holds a {type(checkpoint).__name__}, not the dict of a checkpoint."
        )
    return checkpoint


def _refusal(path: str, error: pickle.UnpicklingError) -> Exception:
    if refused := _REFUSED.search(str(error)):
        return UnsafeFileError(
            f"{path} was not loaded: it would call {refused[1]!r}, and files that call code can do anything. "
            "Ask its authors for a checkpoint of tensors, numbers and text alone."
        )
    if unsupported := _UNSUPPORTED.search(str(error)):
        return UnsafeFileError(
            f"{path} was not loaded: it holds more than tensors, numbers and text ({unsupported[0]}). "
            "Where you trust it, save its weights alone with the code that wrote it."
        )
    return _damaged(path)


def _damaged(path: str) -> CorruptModuleError:
    return CorruptModuleError(f"{path} is truncated or no PyTorch checkpoint; fetch it again.")
