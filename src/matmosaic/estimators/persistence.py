"""Save and load fitted estimators without pickle.

A saved estimator is a directory with ``estimator.json`` (parameters and fitted attributes) beside the
files of what was learnt, and those of modules that were given as objects (``start.*``).
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.estimators.base import GraphRegressor
from matmosaic.exceptions import ModuleFormatError, UnknownNameError, suggest
from matmosaic.graphs import GraphSettings
from matmosaic.modules import PretrainedModule
from matmosaic.modules._files import CARD_FILE, WEIGHTS_FILE, read_files, write_files

ESTIMATOR_FILE = "estimator.json"
FORMAT = "matmosaic.estimator/1"

_classes: dict[str, type[SavableRegressor]] = {}


class SavableRegressor(GraphRegressor):
    """Adds ``save`` and ``load``; subclasses write :meth:`_to_files` and :meth:`_restore`."""

    _files: ClassVar[Sequence[str]] = (CARD_FILE, WEIGHTS_FILE)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known to :func:`load_estimator`, which imports no name found in a file."""
        super().__init_subclass__(**kwargs)
        _classes[cls.__name__] = cls

    def save(
        self,
        directory: str | PathLike[str],
        *,
        target: str = "y",
        unit: str = "unit of y",
        overwrite: bool = False,
    ) -> None:
        """Write the fitted estimator into a directory, all or nothing, without pickle.

        ``callbacks`` and a ``random_state`` that is no int are not saved.

        Parameters
        ----------
        directory : str or path-like
            Directory to create.
        target, unit : str
            What the labels were, for the module's card, such as ``"bulk modulus"`` and ``"GPa"``.
        overwrite : bool, default=False
            Replace an estimator that is there.

        Raises
        ------
        StoreError
            If the directory holds something, or if writing fails; nothing half-written is left.
        """
        path = Path(directory).absolute()
        check_is_fitted(self, "net_")
        contents = self._to_files(target=target, unit=unit)
        contents |= _start_files(self.get_params(deep=False))
        contents[ESTIMATOR_FILE] = json.dumps(self._to_dict(), indent=1).encode()
        write_files(path, contents, overwrite=overwrite)

    @abstractmethod
    def _to_files(self, *, target: str, unit: str) -> dict[str, bytes]:
        """Return the content of the files that hold what was learnt, by name; :attr:`_files` are read."""

    @abstractmethod
    def _restore(self, document: dict[str, Any], contents: Mapping[str, bytes], source: Path) -> None:
        """Set the fitted attributes that :meth:`_to_dict` and :meth:`_to_files` gave."""
        self.unfrozen_ = document["unfrozen"]
        self.best_epoch_ = document["best_epoch"]
        self.history_ = pd.DataFrame(document["history"])

    def _to_dict(self) -> dict[str, Any]:
        parameters = self.get_params(deep=False)
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": {name: _to_json(value) for name, value in parameters.items()},
            "unfrozen": self.unfrozen_,
            "best_epoch": self.best_epoch_,
            "history": self.history_.to_dict(orient="list"),
        }

    @classmethod
    def load(cls, directory: str | PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted estimator that :meth:`save` wrote.

        Parameters
        ----------
        directory : str or path-like
            Its directory.
        device : str, optional
            In place of the saved ``device``, on a machine that lacks it.

        Returns
        -------
        estimator
            Predicts the same numbers; can be fitted again.

        Raises
        ------
        ModuleFormatError
            If the directory holds no estimator of this class, or a file was altered.
        """
        estimator = load_estimator(directory, device=device)
        if not isinstance(estimator, cls):
            raise ModuleFormatError(
                f"{directory} holds a {type(estimator).__name__}. Expected a {cls.__name__}; "
                "load it with that class."
            )
        return estimator


def load_estimator(directory: str | PathLike[str], *, device: str | None = None) -> Any:
    """Load a fitted estimator of whichever class was saved.

    Parameters
    ----------
    directory : str or path-like
        What ``estimator.save(directory)`` wrote.
    device : str, optional
        In place of the saved ``device``, on a machine that lacks it.

    Returns
    -------
    estimator
        Fitted, on the device that its ``device`` parameter means here.

    Raises
    ------
    UnknownNameError
        If the directory does not exist.
    ModuleFormatError
        If it holds no estimator, or one of an unknown class or format.
    """
    path = Path(directory).absolute()
    try:
        document = json.loads(read_files(path, [ESTIMATOR_FILE])[ESTIMATOR_FILE])
    except (OSError, ValueError) as error:
        if not path.exists():
            raise UnknownNameError(f"There is no estimator at {directory}; check the path.") from error
        raise ModuleFormatError(f"{directory} holds no estimator that save() wrote: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModuleFormatError(
            f"{path / ESTIMATOR_FILE} is not of format {FORMAT!r}; save the estimator again."
        )
    if document.get("class") not in _classes:
        raise ModuleFormatError(suggest(str(document.get("class")), _classes, what="estimator class"))
    try:
        parameters = {name: _from_json(value, path) for name, value in document["parameters"].items()}
        estimator = _classes[document["class"]](
            **(parameters if device is None else parameters | {"device": device})
        )
        estimator._restore(document, read_files(path, estimator._files), path)
    except OSError as error:
        raise ModuleFormatError(f"{directory} lacks a file that save() wrote: {error}.") from error
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModuleFormatError(
            f"{path / ESTIMATOR_FILE} lacks a field or has one too many ({error!r}); "
            "save the estimator again."
        ) from error
    return estimator


def _start_files(parameters: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of the modules among parameters, so that the estimator can be fitted again."""
    given = (item for value in parameters.values() for item in _items(value))
    modules = {item.card.sha256: item for item in given if isinstance(item, PretrainedModule)}
    return {
        f"{_start_prefix(sha256)}{name}": content
        for sha256, module in modules.items()
        for name, content in module.to_files().items()
    }


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _start_prefix(sha256: str | None) -> str:
    return f"start.{str(sha256)[:16]}."


def _to_json(value: Any) -> Any:
    """Return a parameter as JSON: plain values as they are, anything else as a dict of kind and content."""
    if isinstance(value, GraphSettings):
        return {"graph_settings": value.to_dict()}
    if isinstance(value, PretrainedModule):
        return {"start": value.card.sha256}
    value = getattr(value, "location", value)  # joblib.Memory
    if isinstance(value, PathLike):
        return str(value)
    if any(isinstance(item, PretrainedModule | PathLike) for item in _items(value)):
        return {type(value).__name__: [_to_json(item) for item in value]}
    try:
        plain = json.loads(json.dumps(value, default=_plain))
    except TypeError:
        return None
    kind = type(plain).__name__ if isinstance(value, Mapping) else type(value).__name__
    return {kind: plain} if kind in ("dict", "tuple") else plain


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _from_json(value: Any, directory: Path) -> Any:
    if not isinstance(value, dict):
        return value
    kind: str
    content: Any
    kind, content = next(iter(value.items())) if len(value) == 1 else ("", None)
    if kind == "graph_settings":
        return GraphSettings.from_dict(content)
    if kind == "start":
        prefix = _start_prefix(content)
        contents = read_files(directory, [prefix + name for name in (CARD_FILE, WEIGHTS_FILE)])
        files = {name.removeprefix(prefix): data for name, data in contents.items()}
        return PretrainedModule.from_files(files, source=directory)
    if kind in ("list", "tuple"):
        items = (_from_json(item, directory) for item in content)
        return list(items) if kind == "list" else tuple(items)
    return {"dict": dict}[kind](content)
