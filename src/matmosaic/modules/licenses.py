"""Which of several licences allows least."""

from __future__ import annotations

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
_ORDER = {
    name: place for place, name in enumerate(_PERMISSIVE + _COPYLEFT + _NON_COMMERCIAL + _NO_DERIVATIVES)
}


def most_restrictive(licenses: Iterable[str | None]) -> str | None:
    """Return the licence that allows least: what something made of several sources may be used under.

    Permissive licences allow more than those with copyleft, these more than those for non-commercial use
    alone, and these more than those that allow no derivatives. An identifier outside this list may forbid
    anything, and so comes after all; no licence at all comes last, as it allows nothing.

    Parameters
    ----------
    licenses : iterable of str or None
        SPDX identifiers of the sources' licences; None where a source has none.

    Returns
    -------
    str or None
        One of them. None if a source has none, or if two have different licences that are not known here,
        of which it cannot be said which allows less; also if there is no source.

    Examples
    --------
    >>> most_restrictive(["MIT", "CC-BY-NC-4.0", "GPL-3.0-only"])
    'CC-BY-NC-4.0'
    >>> most_restrictive(["MIT", None]) is None
    True
    """
    given = set(licenses)
    unknown = given - set(_ORDER)
    if unknown:
        return unknown.pop() if len(unknown) == 1 else None
    return max(given, key=lambda name: _ORDER[str(name)], default=None)
