"""Embedded data, and readers of structures and labels in files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matmosaic.datasets.alloys import alloy_targets, load_alloys
    from matmosaic.datasets.readers import read_structures

__all__ = ["alloy_targets", "load_alloys", "read_structures"]

_HOMES = {"alloy_targets": "alloys", "load_alloys": "alloys", "read_structures": "readers"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
