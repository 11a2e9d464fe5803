"""Addresses of hubs, without the credentials that some carry."""

from __future__ import annotations

import re

from matmosaic.exceptions import InvalidParameterError
from matmosaic.modules.opening import check_url

_USERINFO = re.compile(r"://[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\")\]]*")
_SECRETS = re.compile(r"(pass|secret|token|credential|signature|auth|^sas|^key$|_key$)", re.IGNORECASE)


def normalised(url: str) -> str:
    """Return a hub's URL in the form under which it is shown, cached and remembered.

    Parameters
    ----------
    url : str
        Address of a folder, or of a zip file, as fsspec takes it.

    Returns
    -------
    str
        Without a final slash; of an address that ends in ``.zip``, what is inside.

    Raises
    ------
    InvalidParameterError
        If it is no URL, or if it carries credentials, a query or a ``#``.
    """
    url = url.rstrip("/") if isinstance(url, str) and not url.endswith("://") else url
    if not isinstance(url, str) or "://" not in url:
        raise InvalidParameterError(f"A hub's address is a URL such as 's3://bucket/hub'. Got {url!r}.")
    check_url(url)
    return f"zip://::{url}" if url.lower().endswith(".zip") and "::" not in url else url


def redact(text: str) -> str:
    """Return a text without user names, passwords and queries in its URLs.

    Parameters
    ----------
    text : str
        Such as the message of an error.

    Returns
    -------
    str
        With ``***`` in their place.
    """
    return _QUERY.sub(r"\1?***", _USERINFO.sub("://***@", text))


def is_secret(option: str) -> bool:
    """Return whether an option of a storage is called as those are that hold credentials."""
    return _SECRETS.search(option) is not None


def protocols(url: str) -> list[str]:
    """Return the protocol of each link of a URL, the outermost first; the last may be a path."""
    *links, last = url.split("::")
    return [link.partition("://")[0] for link in [*links, last if "://" in last else f"file://{last}"]]
