"""The published CHGNet force field as a backbone and as modules of matmosaic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matmosaic_chgnet.backbone import CHGNet, graph_settings
    from matmosaic_chgnet.store import CHGNetStore

__all__ = ["CHGNet", "CHGNetStore", "graph_settings"]

_HOMES = {"CHGNet": "backbone", "graph_settings": "backbone", "CHGNetStore": "store"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the backbone needs torch, the store does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
