"""What featurizers tell of single gaps: collected with the features, in whichever process computes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("matmosaic_notes", default=None)


def explain_gap(reason: str) -> None:
    """Tell why some features of the structure at hand are NaN; for `featurize` to call.

    It is kept with the features: `transform` counts the rows by reason, in its warning and in the log, also
    where another process computed them or an earlier run.

    Parameters
    ----------
    reason : str
        The same for all structures with the same gap, such as ``"No electronegativity of He"``: without their
        formulas and rows.
    """
    collected, line = _collected.get(), " ".join(reason.split())
    if collected is not None and line and line not in collected:
        collected.append(line)


@contextmanager
def collect_gaps() -> Iterator[list[str]]:
    """Give a list that holds what is told within the block, each reason once."""
    reasons: list[str] = []
    token = _collected.set(reasons)
    try:
        yield reasons
    finally:
        _collected.reset(token)
