"""Save and load fitted estimators without pickle, and export what they learnt as modules.

A saved estimator is a module's directory (``card.json``, ``weights.safetensors``) with one more
file, ``estimator.json``: parameters and fitted attributes. So it is also a module to start from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.estimators.base import GraphRegressor
from matmosaic.exceptions import ModuleFormatError, UnknownNameError, suggest
from matmosaic.graphs import GraphSettings
from matmosaic.learning import RegressionModel, TargetScale
from matmosaic.modules import ModuleCard, PretrainedModule
from matmosaic.modules._files import CARD_FILE, WEIGHTS_FILE, read_files, write_files

ESTIMATOR_FILE = "estimator.json"
START_PREFIX = "start."
FORMAT = "matmosaic.estimator/1"

_classes: dict[str, type[SavableRegressor]] = {}


class SavableRegressor(GraphRegressor):
    """Adds ``to_module``, ``save`` and ``load`` to an estimator of one backbone."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known to :func:`load_estimator`, which imports no name found in a file."""
        super().__init_subclass__(**kwargs)
        _classes[cls.__name__] = cls

    def to_module(
        self,
        *,
        name: str,
        target: str,
        unit: str,
        version: str = "1",
        dataset: Mapping[str, str | None] | None = None,
        license_weights: str | None = None,
        references: Sequence[str] = (),
    ) -> PretrainedModule:
        """Export what was learnt as a module, to share it or to fine-tune it again.

        Parameters
        ----------
        name : str
            Name of the module and of its directory.
        target, unit : str
            What ``y`` was, such as ``"bulk modulus"`` and ``"GPa"``.
        version : str, default="1"
            Version of the module.
        dataset : mapping, optional
            ``{"name": ..., "doi": ...}`` of the training data.
        license_weights : str, optional
            SPDX identifier of the licence that you give the weights.
        references : sequence of str, optional
            What to cite.

        Returns
        -------
        PretrainedModule
            With backbone, head, golden outputs, and hashed fingerprints of the structures given to
            ``fit`` (of none if that was a GraphTable).
        """
        check_is_fitted(self, "net_")
        model = self.net_.module_
        source = self.module_card_
        scale = {"name": "identity", "mean": self.scale_.mean, "std": self.scale_.std, "right_skewed": False}
        card = ModuleCard(
            name=name,
            version=version,
            backbone=self.backbone if source is None else source.backbone,
            backbone_options=model.backbone.options(),
            graph=model.backbone.graph_settings.to_dict(),
            atom_table=model.backbone.atom_table,
            base=None if source is None else source.sha256,
            head=model.head.options(),
            target=target,
            unit=unit,
            target_transform=scale,
            n_train=self.n_train_,
            dataset=dict(dataset or {"name": None, "doi": None}),
            metrics=self._metrics(unit),
            license_code="MIT",
            license_weights=license_weights,
            references=list(references),
            fingerprints=self._fingerprints,
        )
        return PretrainedModule(card, model.state_dict()).with_golden()

    def _metrics(self, unit: str) -> list[dict[str, Any]]:
        if self.history_.empty or "valid_mae" not in self.history_:
            return []
        best = float(self.history_["valid_mae"].min())
        if not np.isfinite(best):
            return []
        return [{"name": "MAE", "value": best, "unit": unit, "split": "validation"}]

    def save(
        self,
        directory: str | PathLike[str],
        *,
        target: str = "y",
        unit: str = "unit of y",
        overwrite: bool = False,
    ) -> None:
        """Write the fitted estimator into a directory, all or nothing, without pickle.

        ``callbacks`` and a ``random_state`` that is no int are not saved. The directory is also a
        module.

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
        contents = self.to_module(name="estimator", target=target, unit=unit).to_files()
        if isinstance(self.module, PretrainedModule):
            contents |= {START_PREFIX + name: content for name, content in self.module.to_files().items()}
        contents[ESTIMATOR_FILE] = json.dumps(self._to_dict(), indent=1).encode()
        write_files(path, contents, overwrite=overwrite)

    def _to_dict(self) -> dict[str, Any]:
        card = self.module_card_
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": {name: _to_json(value) for name, value in self.get_params(deep=False).items()},
            "module_card": None if card is None else card.to_dict(),
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

    def _restore(self, document: dict[str, Any], module: PretrainedModule) -> None:
        """Set the fitted attributes."""
        card = document["module_card"]
        self.module_card_ = None if card is None else ModuleCard.from_dict(card)
        self.unfrozen_ = document["unfrozen"]
        self.best_epoch_ = document["best_epoch"]
        self.history_ = pd.DataFrame(document["history"])
        transform = module.card.target_transform
        self.scale_ = TargetScale(transform["mean"], transform["std"])
        self._fingerprints = module.card.fingerprints
        backbone, head = module.build_backbone(), module.build_head()
        if head is None or module.card.n_train is None:
            raise ModuleFormatError(f"The card of {module!r} lacks the head or the number of training rows.")
        self.n_train_ = module.card.n_train
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name in self.unfrozen_)
        self.net_ = self._net(RegressionModel(backbone, head))


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
        contents = read_files(path, [CARD_FILE, WEIGHTS_FILE, ESTIMATOR_FILE])
        document = json.loads(contents[ESTIMATOR_FILE])
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
        estimator._restore(document, PretrainedModule.from_files(contents, source=path))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModuleFormatError(
            f"{path / ESTIMATOR_FILE} lacks a field or has one too many ({error!r}); "
            "save the estimator again."
        ) from error
    return estimator


def _to_json(value: Any) -> Any:
    """Return a parameter as JSON: plain values as they are, anything else as a dict of kind and content."""
    if isinstance(value, GraphSettings):
        return {"graph_settings": value.to_dict()}
    if isinstance(value, PretrainedModule):
        return {"start": value.card.name}
    value = getattr(value, "location", value)  # joblib.Memory
    if isinstance(value, PathLike):
        return str(value)
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
        contents = read_files(directory, [START_PREFIX + name for name in (CARD_FILE, WEIGHTS_FILE)])
        files = {name.removeprefix(START_PREFIX): data for name, data in contents.items()}
        return PretrainedModule.from_files(files, source=directory)
    return {"dict": dict, "tuple": tuple}[kind](content)
