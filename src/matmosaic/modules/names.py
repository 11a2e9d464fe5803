"""Names of modules: safe as directory names on every system."""

from __future__ import annotations

import re

from matmosaic.exceptions import InvalidParameterError

#: Pattern of a module's name: no separators, nothing hidden, nothing that a shell or URL changes.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"

# Windows gives these to devices, with any extension.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def check_module_name(name: str) -> str:
    """Return the name if it can name a module, that is, one directory of a store.

    Parameters
    ----------
    name : str
        Name to check.

    Returns
    -------
    str
        The same name.

    Raises
    ------
    InvalidParameterError
        If the name holds anything but letters, digits and ``. _ + -``, starts with one of these
        signs, contains ``..``, ends in a dot or belongs to a device on Windows.

    Examples
    --------
    >>> check_module_name("mp_eform")
    'mp_eform'
    """
    reason = _complaint(name)
    if reason:
        raise InvalidParameterError(
            f"{name!r} cannot name a module: {reason}; choose a name like 'mp_eform'."
        )
    return name


def _complaint(name: str) -> str:
    if not isinstance(name, str):
        return f"a str is expected, not {type(name).__name__}"
    if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
        return "only letters, digits and '.', '_', '+', '-' are allowed, a letter or digit first"
    if ".." in name or name.endswith("."):
        return "it contains '..' or ends in a dot"
    if name.partition(".")[0].lower() in _RESERVED:
        return "Windows reserves it for a device"
    return "" if len(name) <= 128 else "it is longer than 128 characters"
