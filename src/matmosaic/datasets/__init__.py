"""Embedded data, readers of structures and labels in files, and tables of many properties."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matmosaic.datasets.alloys import alloy_targets, load_alloys
    from matmosaic.datasets.merging import MergedProperties, MergeReport, merge_properties
    from matmosaic.datasets.readers import read_structures

__all__ = [
    "MergeReport",
    "MergedProperties",
    "alloy_targets",
    "load_alloys",
    "merge_properties",
    "read_structures",
]

_HOMES = {
    "MergeReport": "merging",
    "MergedProperties": "merging",
    "alloy_targets": "alloys",
    "load_alloys": "alloys",
    "merge_properties": "merging",
    "read_structures": "readers",
}


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
