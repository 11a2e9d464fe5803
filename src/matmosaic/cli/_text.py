"""Aligned tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

#: Longest text of one cell; longer ones lose their middle.
CELL_WIDTH = 32


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[str] = (),
    whole: Iterable[str] = (),
) -> str:
    """Return rows below their headers.

    Parameters
    ----------
    headers : sequence of str
        Names of the columns, with units.
    rows : iterable of sequence of str
        Cells, as many as headers.
    numbers : iterable of str, optional
        Headers of the columns that are aligned to the right.
    whole : iterable of str, optional
        Headers of the columns that are never shortened: whoever reads a reference may want to copy it.

    Returns
    -------
    str
        Lines without trailing spaces.
    """
    kept = set(whole)
    cells = [
        [cell if header in kept else shorten(cell) for header, cell in zip(headers, row, strict=True)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = set(numbers)
    lines = [list(headers), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, header, width in zip(line, headers, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def shorten(text: str, width: int = CELL_WIDTH) -> str:
    """Return a text of at most ``width`` characters, with dots in place of its middle."""
    if len(text) <= width:
        return text
    head = (width - 3) // 3  # the end of a path or reference tells more than its beginning
    return f"{text[:head]}...{text[-(width - 3 - head) :]}"


def decimals(values: Iterable[float], digits: int = 3) -> int:
    """Return how many decimals show the smallest positive value with that many digits."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(min(positive))), 0), 9)


def with_unit(text: str, unit: str | None) -> str:
    """Return ``"MAE (GPa)"``, or ``"MAE"`` where the unit is not known."""
    return f"{text} ({unit})" if unit else text


def quantity(value: float, unit: str | None) -> str:
    """Return a number of three digits with its unit."""
    return f"{value:.{decimals([value])}f} {unit or ''}".rstrip()


def listing(names: Sequence[str], shown: int = 10) -> str:
    """Return the first names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
