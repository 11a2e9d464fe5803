"""From what stands before the name in a reference to the store: a plugin, a configured hub, a URL."""

from __future__ import annotations

import re
from typing import Any

from matmosaic import plugins
from matmosaic.exceptions import InvalidParameterError, PluginError, UnknownNameError, suggest
from matmosaic.modules.store import ModuleStore, StoreOpener

#: A URL, or several chained by ``::``; two letters at least, for ``C:`` is a drive.
URL = r"[A-Za-z][A-Za-z0-9+.-]+://[^#]*"

_OPENER = "hub"

# What may stand between :// and the first slash: a host with a port, and where a storage writes its places
# otherwise, that. All else with an @ or a colon is taken for a user name and a password.
_PLACE = r"(\[[^@\]]*\]|[^:@]*)(:\d*)?"
_PLACES = {
    **dict.fromkeys(["s3", "s3a"], r"arn:[^@]*|[^:@]*"),
    **dict.fromkeys(["abfs", "abfss", "az"], r"[^:@]*(@[^:@]*)?"),
    "github": r"[^:@]*(:[^:@]*)?(@[^:@]*)?",
}


def is_url(text: str) -> bool:
    """Return whether a text is the URL of a store, rather than its name."""
    return re.fullmatch(URL, text) is not None


def carries_credentials(url: str) -> bool:
    """Return whether a URL, or a link of a chain of them, names a user, with or without password."""
    parts = [link.partition("://") for link in url.split("::")]
    return any(
        sign and not re.fullmatch(_PLACES.get(protocol, _PLACE), rest.partition("/")[0])
        for protocol, sign, rest in parts
    )


def check_url(url: str) -> str:
    """Return a URL that may be shown and kept: references end up in logs and saved estimators.

    Parameters
    ----------
    url : str
        Address of a store.

    Returns
    -------
    str
        The same address.

    Raises
    ------
    InvalidParameterError
        If it carries credentials, a query or a ``#``; the message does not repeat them.
    """
    if not (carries_credentials(url) or "?" in url or "#" in url):
        return url
    shown = f"{url.partition('://')[0]}://***" if carries_credentials(url) else re.split("[?#]", url)[0]
    raise InvalidParameterError(
        f"The address of a store must not carry credentials, a query or '#'. Got {shown!r} with some; give "
        "credentials by the environment or the configuration of the storage, as the page on hubs says."
    )


def open_store(location: str) -> ModuleStore:
    """Open a store.

    Parameters
    ----------
    location : str
        Name of a store plugin, name of a hub that the user has configured, or a URL.

    Returns
    -------
    ModuleStore
        The store; nothing is read yet.

    Raises
    ------
    UnknownNameError
        If there is no such store.
    PluginError
        If it is a URL and the plugin that opens those is not installed.
    InvalidParameterError
        If the URL carries credentials.
    """
    if is_url(location):
        return store_opener(f"Modules at {check_url(location)}").open(location)
    try:
        return make_store(location)
    except UnknownNameError:
        return _open_configured(location)


def store_opener(what: str) -> StoreOpener:
    """Return what opens hubs by URL and by configured name.

    Parameters
    ----------
    what : str
        What needs it, for the message of the error.

    Raises
    ------
    PluginError
        If the plugin is not installed.
    """
    if _OPENER not in plugins.names("openers"):
        raise PluginError(f"{what} need the plugin for hubs; install it: pip install matmosaic-hub.")
    return make_opener(_OPENER)


def make_store(name: str) -> ModuleStore:
    """Return the store of a plugin.

    Raises
    ------
    UnknownNameError
        If there is no such plugin.
    PluginError
        If it cannot be loaded or makes no store.
    """
    store: ModuleStore = _make("stores", name, ("names", "card", "load"))
    return store


def make_opener(name: str) -> StoreOpener:
    """Return what a plugin opens stores with; raises as :func:`make_store` does."""
    opener: StoreOpener = _make("openers", name, ("names", "open"))
    return opener


def _make(kind: plugins.Kind, name: str, methods: tuple[str, ...]) -> Any:
    made = plugins.load(kind, name)()
    missing = [method for method in methods if not callable(getattr(made, method, None))]
    if missing:
        raise PluginError(
            f"Plugin {name!r} of matmosaic.{kind} makes no {kind.removesuffix('s')}: what it makes, of type "
            f"{type(made).__name__}, lacks the methods {missing}; report it to its authors."
        )
    plugins.check_contract(kind, name, made)
    return made


def _open_configured(name: str) -> ModuleStore:
    opener = store_opener("Hubs") if _OPENER in plugins.names("openers") else None
    configured = opener.names() if opener else []
    if opener and name in configured:
        return opener.open(name)
    raise UnknownNameError(suggest(name, [*plugins.names("stores"), *configured], what="store"))
