"""Importers: other projects' checkpoints as modules."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

from matmosaic.exceptions import UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.modules.importers.alignn import import_alignn
    from matmosaic.modules.importers.cgcnn import import_cgcnn
    from matmosaic.modules.module import PretrainedModule

__all__ = ["FORMATS", "import_alignn", "import_cgcnn", "load"]

#: Names of the formats that :func:`load` knows.
FORMATS = ("alignn", "cgcnn")


def load(format: str, path: str | PathLike[str], **options: Any) -> PretrainedModule:
    """Import a checkpoint of a named format.

    Parameters
    ----------
    format : str
        One of :data:`FORMATS`.
    path : str or path-like
        The file.
    **options
        Keyword arguments of the importer, such as ``name`` and ``unit`` of :func:`import_cgcnn`.

    Returns
    -------
    PretrainedModule
        The module.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    """
    if format not in FORMATS:
        raise UnknownNameError(suggest(format, FORMATS, what="checkpoint format"))
    return _importer(f"import_{format}")(path, **options)


def _importer(name: str) -> Any:
    file = import_module(f"{__name__}.{name.removeprefix('import_')}")
    return getattr(file, name)


def __getattr__(name: str) -> Any:
    if name in __all__:  # Importers need torch, the list of formats does not.
        return _importer(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
