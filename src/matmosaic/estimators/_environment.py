"""Where and how numbers are made: device, random numbers, memory errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

from matmosaic.exceptions import DeviceMemoryError, InvalidParameterError


def resolve_device(device: str) -> str:
    """Return the device that ``device`` means here.

    Parameters
    ----------
    device : str
        ``"auto"`` takes CUDA where it is present, else the CPU; anything else is torch's name.

    Returns
    -------
    str
        Such as ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    InvalidParameterError
        If the device is unknown or not present.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidParameterError(
            f"'device' must be 'auto', 'cpu', 'cuda', 'mps' or another device of torch that is present. "
            f"Got {device!r}: {reason}"
        ) from error
    return device


@contextmanager
def seeded(random_state: int | np.random.RandomState | None, device: str) -> Iterator[np.random.RandomState]:
    """Seed torch for the time of a block and put its global state back afterwards.

    Parameters
    ----------
    random_state : int, RandomState or None
        As in scikit-learn.
    device : str
        Its generator is seeded too.

    Yields
    ------
    numpy.random.RandomState
        For everything that is drawn with numpy.
    """
    rng = check_random_state(random_state)
    kind = torch.device(device).type
    devices = [] if kind == "cpu" else range(getattr(torch, kind).device_count())
    with torch.random.fork_rng(devices, device_type=kind if devices else "cuda"):
        # torch.manual_seed seeds all devices, of which only these are put back.
        seed = torch.manual_seed if devices else torch.default_generator.manual_seed
        seed(int(rng.randint(np.iinfo(np.int32).max)))
        yield rng


@contextmanager
def device_memory(batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error of the device into one that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The device ran out of memory with batch_size={batch_size}. Lower 'batch_size', freeze more of "
            "the backbone ('unfrozen'), keep compress=True, or use device='cpu'."
        ) from error
