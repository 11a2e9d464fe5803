"""What matmosaic asks for a store when a reference holds a URL or the name of a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from matmosaic.exceptions import UnknownNameError, suggest
from matmosaic.modules.opening import is_url
from matmosaic_hub.config import add_hub, read_hubs, remove_hub
from matmosaic_hub.store import HubStore

# By address and options, for the time of the process: a store keeps its index for a few seconds.
_stores: dict[str, HubStore] = {}


class HubOpener:
    """Opens hubs by URL, and by the names that the user has given to them.

    The entry point ``hub`` of the group ``matmosaic.openers``; matmosaic calls it.

    Examples
    --------
    >>> HubOpener().open("https://example.org/hub")
    HubStore('https://example.org/hub')
    """

    contract: ClassVar[int] = 1

    def names(self) -> list[str]:
        """Return the names that the user has given, sorted."""
        return list(read_hubs())

    def hubs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return ``url`` and ``options`` of each hub by its name."""
        return read_hubs()

    def open(self, location: str) -> HubStore:
        """Return the hub of a name or at a URL.

        Parameters
        ----------
        location : str
            A URL, or a name that the user has given to one.

        Returns
        -------
        HubStore
            The same object each time in one process; nothing is read yet.

        Raises
        ------
        UnknownNameError
            If no hub has that name.
        InvalidParameterError
            If the URL carries credentials.
        """
        url, options = (location, {}) if is_url(location) else _configured(location)
        key = f"{url} {sorted(options.items())}"
        if key not in _stores:
            _stores[key] = HubStore(url, storage_options=options)
        return _stores[key]

    def add(self, name: str, url: str, options: Mapping[str, Any]) -> str:
        """Keep a URL under a name, as :func:`matmosaic_hub.config.add_hub` does; return the file's path."""
        return str(add_hub(name, url, options))

    def remove(self, name: str) -> str:
        """Forget a name; return the path of the file that held it."""
        return str(remove_hub(name))


def _configured(name: str) -> tuple[str, dict[str, Any]]:
    hubs = read_hubs()
    if name not in hubs:
        raise UnknownNameError(suggest(name, hubs, what="hub"))
    return hubs[name]["url"], hubs[name]["options"]
