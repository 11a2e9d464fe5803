"""Memory of short-lived arrays."""

from __future__ import annotations

import torch

# Just below the size up to which glibc adapts, 32 MiB.
ADAPTS_TO = 31 * 2**20


def keep_freed_memory() -> None:
    """Let the C library keep freed memory of the size of bond arrays for the next step.

    glibc gives blocks above a threshold back to the system, which must clear them page by page when
    they are asked for again, in every step of training. It raises the threshold to the largest block
    freed so far, so one that is never written to suffices. Other libraries take no notice.
    """
    torch.empty(ADAPTS_TO, dtype=torch.uint8, device="cpu")
