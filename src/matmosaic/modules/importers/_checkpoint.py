"""Read PyTorch checkpoints of other projects without running anything that they contain."""

from __future__ import annotations

import argparse
import io
import pickle
import re
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

# How torch names what it refused to call; the rest of its message advises to call it after all.
_REFUSED = re.compile(r"GLOBAL (\S+)")


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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"Checkpoint {path} cannot be read ({error}); check the path.") from error
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # whatever truncated bytes make the reader raise
        raise _damaged(path) from error
    if not isinstance(checkpoint, dict):
        raise CorruptModuleError(f"{path} holds a {type(checkpoint).__name__}, not the dict of a checkpoint.")
    return checkpoint


def _refusal(path: Path, error: pickle.UnpicklingError) -> Exception:
    refused = _REFUSED.search(str(error))
    if not refused:
        return _damaged(path)
    return UnsafeFileError(
        f"{path} was not loaded: it would call {refused[1]!r}, and files that call code can do anything. "
        "Ask its authors for a checkpoint of tensors, numbers and text alone."
    )


def _damaged(path: Path) -> CorruptModuleError:
    return CorruptModuleError(f"{path} is truncated or no PyTorch checkpoint; fetch it again.")
