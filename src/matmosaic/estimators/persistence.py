"""Save and load fitted estimators without pickle.

A saved estimator is a directory with ``estimator.json`` (parameters and fitted attributes) beside the
files of what was learnt, and those of modules that were given as objects (``start.*``).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from matmosaic.estimators._featurizers import FeaturizerCard, reference_to_save
from matmosaic.estimators.base import GraphRegressor
from matmosaic.exceptions import CorruptModuleError, ModuleFormatError, UnknownNameError, suggest
from matmosaic.featurizers import Featurizer
from matmosaic.graphs import GraphSettings
from matmosaic.learning.derived import DerivedFeature
from matmosaic.modules import ModuleCard, PretrainedModule
from matmosaic.modules._files import CARD_FILE, read_files, write_files

ESTIMATOR_FILE = "estimator.json"
FORMAT = "matmosaic.estimator/1"
# What labels are called on a card where nobody says.
DEFAULT_TARGET = "y"

_classes: dict[str, type[Savable]] = {}


class SavedFiles(dict[str, bytes]):
    """Content of files by name, which says what is missing.

    Parameters
    ----------
    contents : mapping of str to bytes
        Content by file name.
    source : Path
        Where the files are, for messages.
    """

    def __init__(self, contents: Mapping[str, bytes], source: Path) -> None:
        super().__init__(contents)
        self.source = source

    def __missing__(self, name: str) -> bytes:
        """Raise an error that names the file."""
        raise ModuleFormatError(f"{self.source} lacks {name}, which save() wrote; restore it.")

    def part(self, prefix: str) -> SavedFiles:
        """Return the files whose names start with a prefix, without it."""
        names = [name for name in self if name.startswith(prefix)]
        rest = {name.removeprefix(prefix): self[name] for name in names}
        return SavedFiles(rest, self.source / f"{prefix}*")


class Savable(BaseEstimator, ABC):
    """Adds ``save`` and ``load`` to an estimator; subclasses write :meth:`_to_files` and :meth:`_restore`."""

    #: An attribute that every fitted estimator of the class has.
    _fitted_by: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known to :func:`load_estimator`, which imports no name found in a file."""
        super().__init_subclass__(**kwargs)
        _classes[cls.__name__] = cls

    def save(
        self,
        directory: str | PathLike[str],
        *,
        target: str | Sequence[str] = DEFAULT_TARGET,
        unit: str | Sequence[str] | Mapping[str, str] = "unit of y",
        overwrite: bool = False,
    ) -> None:
        """Write the fitted estimator into a directory, all or nothing, without pickle.

        ``callbacks`` and a ``random_state`` that is no int are not saved.

        Parameters
        ----------
        directory : str or path-like
            Directory to create.
        target, unit : str
            What the labels were, for the module's card, such as ``"bulk modulus"`` and ``"GPa"``; of several
            properties as for :meth:`MPTRegressor.to_module`. The default target stands for the name of the
            labels, if they had one.
        overwrite : bool, default=False
            Replace an estimator that is there.

        Raises
        ------
        StoreError
            If the directory holds something, or if writing fails; nothing half-written is left.
        InvalidParameterError
            If it needs a featurizer that no plugin yields.
        """
        path = Path(directory).absolute()
        write_files(path, to_files(self, target=target, unit=unit), overwrite=overwrite)

    @abstractmethod
    def _to_files(self, *, target: Any, unit: Any) -> dict[str, bytes]:
        """Return the content of the files that hold what was learnt, by name."""

    @abstractmethod
    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        """Set the fitted attributes that :meth:`_to_dict` and :meth:`_to_files` gave."""

    def _to_dict(self) -> dict[str, Any]:
        parameters = self.get_params(deep=False)
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": {name: _to_json(value) for name, value in parameters.items()},
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


class SavableRegressor(Savable, GraphRegressor):
    """An estimator with a network that can be saved."""

    _fitted_by = "net_"

    @abstractmethod
    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        self.unfrozen_ = document["unfrozen"]
        self.best_epoch_ = document["best_epoch"]
        self.history_ = pd.DataFrame(document["history"])

    def _to_dict(self) -> dict[str, Any]:
        return {
            **super()._to_dict(),
            "unfrozen": self.unfrozen_,
            "best_epoch": self.best_epoch_,
            "history": self.history_.to_dict(orient="list"),
        }


def to_files(estimator: Savable, *, target: Any, unit: Any) -> dict[str, bytes]:
    """Return the content of all files of a fitted estimator, by name; see :meth:`Savable.save`."""
    check_is_fitted(estimator, estimator._fitted_by)
    given = (item for value in estimator.get_params(deep=False).values() for item in _items(value))
    contents = estimator._to_files(target=target, unit=unit)
    contents |= start_files(item for item in given if isinstance(item, PretrainedModule))
    contents[ESTIMATOR_FILE] = json.dumps(estimator._to_dict(), indent=1).encode()
    return contents


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
        contents = read_files(path, names=None)
    except OSError as error:
        if not path.exists():
            raise UnknownNameError(f"There is no estimator at {directory}; check the path.") from error
        raise ModuleFormatError(f"{directory} holds no estimator that save() wrote: {error}.") from error
    return from_files(SavedFiles(contents, path), device=device)


def from_files(contents: SavedFiles, *, device: str | None = None) -> Any:
    """Return the estimator whose files :func:`to_files` gave; see :func:`load_estimator`."""
    document = _document(contents)
    try:
        parameters = {name: _from_json(value, contents) for name, value in document["parameters"].items()}
        estimator = _classes[document["class"]](
            **(parameters if device is None else parameters | {"device": device})
        )
        estimator._restore(document, contents, contents.source)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModuleFormatError(
            f"{contents.source / ESTIMATOR_FILE}, or a file beside it, lacks a field or has one too many "
            f"({error!r}); save the estimator again."
        ) from error
    return estimator


def _document(contents: SavedFiles) -> dict[str, Any]:
    """Return what the estimator's file says, of a known format and class."""
    try:
        document = json.loads(contents.get(ESTIMATOR_FILE, b""))
    except ValueError as error:
        raise ModuleFormatError(
            f"{contents.source} holds no estimator that save() wrote: {ESTIMATOR_FILE} is missing or not "
            f"readable ({error})."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModuleFormatError(
            f"{contents.source / ESTIMATOR_FILE} is not of format {FORMAT!r}; save the estimator again."
        )
    if document.get("class") not in _classes:
        raise ModuleFormatError(suggest(str(document.get("class")), _classes, what="estimator class"))
    return document


def start_files(modules: Iterable[PretrainedModule]) -> dict[str, bytes]:
    """Return the files of modules that an estimator needs as they were before training, each once."""
    given = list(modules)
    bases = [module.base for module in given if module.base is not None]
    return {
        f"{_start_prefix(module.card.sha256)}{name}": content
        for module in [*given, *bases]
        for name, content in module.to_files().items()
    }


def start_module(contents: SavedFiles, sha256: str) -> PretrainedModule:
    """Return the module of these weights that :func:`start_files` wrote."""
    files = contents.part(_start_prefix(sha256))
    card = ModuleCard.from_json(files[CARD_FILE], source=str(files.source / CARD_FILE))
    base = start_module(contents, str(card.base)) if card.kind == "adapter" else None
    module = PretrainedModule.from_files(files, source=files.source, base=base)
    if module.card.sha256 != sha256:
        raise CorruptModuleError(
            f"{files.source} holds other weights than the estimator was started from: expected sha256 "
            f"{sha256}, got {module.card.sha256}. Save the estimator again."
        )
    return module


def _items(value: Any) -> Sequence[Any]:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return value if isinstance(value, list | tuple) else [value]


def _start_prefix(sha256: str | None) -> str:
    return f"start.{str(sha256)[:16]}."


def _to_json(value: Any) -> Any:
    """Return a parameter as JSON: plain values as they are, anything else as a dict of kind and content."""
    if isinstance(value, GraphSettings):
        return {"graph_settings": value.to_dict()}
    if isinstance(value, PretrainedModule):
        return {"start": value.card.sha256}
    if isinstance(value, Featurizer):
        return {"featurizer": [reference_to_save(value), value.identity()]}
    if isinstance(value, DerivedFeature):
        variables = {name: _to_json(one) for name, one in value.variables.items()}
        return {"derived": {"formula": value.formula, "unit": value.unit, "name": value.name, **variables}}
    value = getattr(value, "location", value)  # joblib.Memory
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, PathLike):
        return str(value)
    if any(
        isinstance(item, PretrainedModule | Featurizer | DerivedFeature | PathLike) for item in _items(value)
    ):
        return {type(value).__name__: [_to_json(item) for item in value]}
    try:
        content = json.loads(json.dumps(value, default=plain))
    except TypeError:
        return None
    kind = type(content).__name__ if isinstance(value, Mapping) else type(value).__name__
    return {kind: content} if kind in ("dict", "tuple") else content


def plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _from_json(value: Any, contents: SavedFiles) -> Any:
    if not isinstance(value, dict):
        return value
    kind: str
    content: Any
    kind, content = next(iter(value.items())) if len(value) == 1 else ("", None)
    if kind == "graph_settings":
        return GraphSettings.from_dict(content)
    if kind == "start":
        return start_module(contents, content)
    if kind == "featurizer":
        reference, identity = content
        return FeaturizerCard("", identity, reference).load()
    if kind == "derived":
        return DerivedFeature(**{name: _from_json(one, contents) for name, one in content.items()})
    if kind in ("list", "tuple"):
        items = (_from_json(item, contents) for item in content)
        return list(items) if kind == "list" else tuple(items)
    return {"dict": dict}[kind](content)
