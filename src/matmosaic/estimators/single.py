"""The steps of estimators that train one backbone, and what they learnt as a module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.backbones import MLP, AdaptedBackbone, Backbone, unfreeze
from matmosaic.estimators._adapters import Base, Kind, kind_to_export, with_adapters
from matmosaic.estimators._own_heads import own_heads, own_outputs, warn_of_known
from matmosaic.estimators.persistence import DEFAULT_TARGET, SavableRegressor, SavedFiles
from matmosaic.exceptions import ModuleFormatError
from matmosaic.learning import (
    ManyProperties,
    OneProperty,
    PropertyScales,
    RegressionModel,
    TableDataset,
    TargetScale,
)
from matmosaic.learning.targets import as_column
from matmosaic.modules import ModuleCard, PretrainedModule
from matmosaic.modules._weights import ADAPTER_PREFIX


class SingleBackboneRegressor(SavableRegressor):
    """An estimator of one backbone, whose saved directory is also a module."""

    @abstractmethod
    def _backbone(self) -> tuple[Backbone, PretrainedModule | None]:
        """Return a fresh backbone to train, and the module that it came from."""

    def _task_of(self, y: Any) -> OneProperty | ManyProperties:
        as_column(y, "y")  # Several columns are named before a head is looked for.
        frame = isinstance(y, pd.DataFrame)
        name = y.columns[0] if frame else getattr(y, "name", None)
        return OneProperty(None if name is None else str(name))

    def _model(self) -> RegressionModel:
        backbone, module = self._backbone()
        self.module_card_ = None if module is None else module.card
        backbone = with_adapters(backbone, module, self.unfrozen)
        self._base = Base.of(module, getattr(self, "module", None))
        # There is nothing to keep in a network that was not trained.
        self.unfrozen_ = unfreeze(backbone, "all" if module is None else self.unfrozen)
        return RegressionModel(backbone, self._task.join(self._heads(backbone, module)))

    def _heads(self, backbone: Backbone, module: PretrainedModule | None) -> list[MLP]:
        """Return a head for each property, new ones or the module's own."""
        if self.head == "inherit":
            outputs = own_outputs(self.module_card_, self._task)
            return own_heads(cast("PretrainedModule", module), outputs)
        warn_of_known(self.module_card_, self._task, stacklevel=4)  # The call of fit.
        return [MLP(backbone.n_features, self.head_widths) for _ in self._task.names or [None]]

    def _scale(self, y: np.ndarray, weight: np.ndarray | None) -> TargetScale | PropertyScales:
        if self.head == "inherit":  # Another scale would change what the head predicts.
            return self._task.of_card(own_outputs(self.module_card_, self._task))
        return super()._scale(y, weight)

    def _learn(self, model: Any, train: TableDataset, validation: TableDataset | None) -> None:
        # Features of random weights have no scale worth keeping, and a module's own head has its own.
        if self.module_card_ is not None and self.head == "new":
            model.scale_features(train, batch_size=self.batch_size)
        self._train(model, train, validation)

    def _fit_rows(self, train: TableDataset, validation: TableDataset | None, *, scale: TargetScale) -> None:
        """Learn from rows of graphs whose labels are scaled already."""
        self.scale_ = scale
        self.n_train_ = len(train)
        self._fingerprints = []
        self._learn(self._model().to(train.table.device), train, validation)

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
        kind: Kind | None = None,
    ) -> PretrainedModule:
        """Export what was learnt as a module, to share it or to fine-tune it again.

        Parameters
        ----------
        name : str
            Name of the module and of its directory.
        target, unit : str
            What ``y`` was, such as ``"bulk modulus"`` and ``"GPa"``. The target ``"y"`` stands for the name
            of the labels, if they had one.
        version : str, default="1"
            Version of the module.
        dataset : mapping, optional
            ``{"name": ..., "doi": ...}`` of the training data.
        license_weights : str, optional
            SPDX identifier of the licence that you give the weights.
        references : sequence of str, optional
            What to cite.
        kind : {"full", "adapter"}, optional
            The whole network, or its adapters and the head alone, which need the module that they were
            trained with. By default adapters alone, if nothing else of the backbone was trained.

        Returns
        -------
        PretrainedModule
            With backbone, head, golden outputs, and one-way hashes of the structures given to ``fit`` (of
            none if that was a GraphTable) and of those that its start was trained on.

        Raises
        ------
        InvalidParameterError
            If adapters are asked for, and there are none or the rest was trained, too.
        UnknownNameError
            If, after loading a saved estimator, the module of the adapters is not found.
        """
        check_is_fitted(self, "net_")
        model = self.net_.module_
        source = self.module_card_
        kind = kind_to_export(kind, model.backbone, self.unfrozen_, self._base)
        card = ModuleCard(
            name=name,
            version=version,
            backbone=self.backbone if source is None else source.backbone,
            backbone_options=model.backbone.options(),
            graph=model.backbone.graph_settings.to_dict(),
            atom_table=model.backbone.atom_table,
            kind=kind,
            **self._started_from(kind, model.backbone),
            head=model.head.options(),
            n_train=self.n_train_,
            dataset=dict(dataset or {"name": None, "doi": None}),
            license_code="MIT",
            license_weights=license_weights,
            references=list(references),
            fingerprints=self._fingerprints,
            **self._predicted(target, unit),
        )
        own = {
            name: value
            for name, value in model.state_dict().items()
            if kind == "full" or name.startswith((ADAPTER_PREFIX, "head."))
        }
        base = self._base.find() if kind == "adapter" and self._base else None
        return PretrainedModule(card, own, base=base).with_golden()

    def _started_from(self, kind: Kind, backbone: Backbone) -> dict[str, Any]:
        """Return the fields of the card about adapters, and about what training started from."""
        adapted = isinstance(backbone, AdaptedBackbone)
        adapter = {"adapter": {"reduction": backbone.reduction}} if adapted else {}
        if kind == "adapter" and self._base is not None:
            return {**adapter, "base": self._base.sha256, "base_reference": self._base.reference}
        return {**adapter, "base": None if self.module_card_ is None else self.module_card_.sha256}

    def _predicted(self, target: Any, unit: Any) -> dict[str, Any]:
        """Return the fields of the card about what is predicted, and how well."""
        scale = cast("TargetScale", self.scale_)
        own = getattr(self._task, "name", None) or DEFAULT_TARGET
        return {
            "target": own if target in (None, DEFAULT_TARGET) else target,
            "unit": unit,
            "target_transform": scale.to_card(),
            "metrics": self._metrics("MAE", "valid_mae", unit),
        }

    def _metrics(self, name: str, column: str, unit: str) -> list[dict[str, Any]]:
        """Return the record of a validation error of the epoch that was kept; none if there is no such."""
        if self.history_.empty or not np.isfinite(self.history_.get("valid_mae", np.nan)).any():
            return []
        value = float(self.history_[column][self.history_["valid_mae"].idxmin()])
        return [{"name": name, "value": value, "unit": unit, "split": "validation"}]

    def _to_files(self, *, target: Any, unit: Any) -> dict[str, bytes]:
        # Whole, so that it can be loaded wherever it is taken.
        return self.to_module(name="estimator", target=target, unit=unit, kind="full").to_files()

    def _to_dict(self) -> dict[str, Any]:
        card = self.module_card_
        return {
            **super()._to_dict(),
            "module_card": None if card is None else card.to_dict(),
            "label_name": getattr(self._task, "name", None),
            "base_reference": self._base.reference if self._base else "",
        }

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        super()._restore(document, contents, source)
        if isinstance(self._task, OneProperty):
            self._task = OneProperty(document["label_name"])
        card = document["module_card"]
        self.module_card_ = None if card is None else ModuleCard.from_dict(card)
        reference = document.get("base_reference", "")  # Files of version 0.1 lack it.
        self._base = Base.of_card(self.module_card_, reference, getattr(self, "module", None))
        module = PretrainedModule.from_files(contents, source=source)
        self.scale_ = self._task.of_card(module.card.outputs)
        self._fingerprints = module.card.fingerprints
        backbone, head = module.build_backbone(), module.build_head()
        if head is None or module.card.n_train is None:
            raise ModuleFormatError(f"The card of {module!r} lacks the head or the number of training rows.")
        self.n_train_ = module.card.n_train
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name in self.unfrozen_)
        self.net_ = self._net(RegressionModel(backbone, head))
