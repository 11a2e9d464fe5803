"""What something made of several sources may be used under, by the licences of the sources."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["most_restrictive"]

# SPDX identifiers, from what allows most to what allows least: of each kind, the later bind more.
_PERMISSIVE = (
    "CC0-1.0",
    "PDDL-1.0",
    "Unlicense",
    "0BSD",
    "MIT-0",
    "MIT",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Apache-2.0",
    "ODC-By-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
)
_COPYLEFT = (
    "MPL-2.0",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "ODbL-1.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
)
_NON_COMMERCIAL = ("CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0")
_NO_DERIVATIVES = ("CC-BY-ND-3.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0")
_KNOWN = _PERMISSIVE + _COPYLEFT + _NON_COMMERCIAL + _NO_DERIVATIVES
_SPELLING = {name.casefold(): name for name in _KNOWN}
# What each binds by: non-commercial use, no derivatives, sharing alike.
_TERMS = {
    name: {"NC", "ND", "SA"}.intersection([*name.split("-"), "SA" if name in _COPYLEFT else ""])
    for name in _KNOWN
}


def most_restrictive(licenses: Iterable[str | None]) -> str | None:
    """Return the licence that something made of several sources may be used under.

    Licences bind by up to three terms: copyleft, non-commercial use alone, and no derivatives. The result is
    the licence with most of the terms that the sources have; where it lacks some, those that have them come
    beside it, joined by AND as in an SPDX expression. One that is not known here may forbid anything, and
    is never left out.

    Parameters
    ----------
    licenses : iterable of str or None
        SPDX identifiers of the sources' licences, or expressions, in any case; None where a source has none.

    Returns
    -------
    str or None
        SPDX identifier or expression. None if a source has no licence, as nothing is allowed then, or if
        there is no source.

    Examples
    --------
    >>> most_restrictive(["MIT", "CC-BY-NC-4.0", "cc-by-nc-4.0"])
    'CC-BY-NC-4.0'
    >>> most_restrictive(["CC-BY-NC-4.0", "CC-BY-ND-4.0"])
    'CC-BY-NC-4.0 AND CC-BY-ND-4.0'
    >>> most_restrictive(["MIT", None]) is None
    True
    """
    given = list(licenses)
    if None in given:
        return None
    parts = {part.casefold(): part for one in given for part in _parts(str(one))}
    unknown = [part for key, part in sorted(parts.items()) if key not in _SPELLING]
    binding = _binding(_SPELLING[key] for key in parts if key in _SPELLING)
    # A permissive licence asks for nothing that whoever keeps to a stricter one is not used to.
    kept = [name for name in binding if _TERMS[name] or not unknown]
    found = [*kept, *unknown]
    return " AND ".join(map(_bracketed, found) if len(found) > 1 else found) or None


def _parts(expression: str) -> list[str]:
    """Return the licences that all bind; an expression of alternatives is one."""
    if " OR " in expression.upper():
        return [expression]
    return re.split(r"\s+AND\s+", expression.strip(), flags=re.IGNORECASE)


def _bracketed(part: str) -> str:
    return f"({part})" if " OR " in part.upper() and part[0] != "(" else part


def _binding(names: Iterable[str]) -> list[str]:
    """Return the fewest licences that have all terms of these, those with most terms first chosen."""
    chosen: list[str] = []
    covered: set[str] = set()
    for name in sorted(names, key=lambda one: (len(_TERMS[one]), _KNOWN.index(one)), reverse=True):
        if not chosen or _TERMS[name] - covered:
            chosen.append(name)
            covered |= _TERMS[name]
    return sorted(chosen, key=_KNOWN.index)
