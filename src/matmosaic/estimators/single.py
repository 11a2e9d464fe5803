"""The steps of estimators that train one backbone, and what they learnt as a module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from matmosaic.backbones import MLP, Backbone, unfreeze
from matmosaic.estimators.persistence import SavableRegressor, SavedFiles
from matmosaic.exceptions import ModuleFormatError
from matmosaic.learning import RegressionModel, TableDataset, TargetScale
from matmosaic.modules import ModuleCard, PretrainedModule


class SingleBackboneRegressor(SavableRegressor):
    """An estimator of one backbone, whose saved directory is also a module."""

    @abstractmethod
    def _backbone(self) -> tuple[Backbone, ModuleCard | None]:
        """Return a fresh backbone to train, and the card of the module that it came from."""

    def _model(self) -> RegressionModel:
        backbone, self.module_card_ = self._backbone()
        # There is nothing to keep in a network that was not trained.
        self.unfrozen_ = unfreeze(backbone, "all" if self.module_card_ is None else self.unfrozen)
        return RegressionModel(backbone, MLP(backbone.n_features, self.head_widths))

    def _learn(self, model: Any, train: TableDataset, validation: TableDataset | None) -> None:
        if self.module_card_ is not None:  # Features of random weights have no scale worth keeping.
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

    def _to_files(self, *, target: str, unit: str) -> dict[str, bytes]:
        return self.to_module(name="estimator", target=target, unit=unit).to_files()

    def _to_dict(self) -> dict[str, Any]:
        card = self.module_card_
        return {**super()._to_dict(), "module_card": None if card is None else card.to_dict()}

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        super()._restore(document, contents, source)
        card = document["module_card"]
        self.module_card_ = None if card is None else ModuleCard.from_dict(card)
        module = PretrainedModule.from_files(contents, source=source)
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
