"""Importers: other projects' checkpoints as modules."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from matmosaic.exceptions import UnknownNameError, suggest

if TYPE_CHECKING:
    from matmosaic.modules.importers.cgcnn import import_cgcnn
    from matmosaic.modules.module import PretrainedModule

__all__ = ["FORMATS", "import_cgcnn", "load"]

#: Names of the formats that :func:`load` knows.
FORMATS = ("cgcnn",)


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
    from matmosaic.modules.importers.cgcnn import import_cgcnn

    return import_cgcnn(path, **options)


def __getattr__(name: str) -> Any:
    if name == "import_cgcnn":  # It needs torch, the list of formats does not.
        from matmosaic.modules.importers.cgcnn import import_cgcnn

        return import_cgcnn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
