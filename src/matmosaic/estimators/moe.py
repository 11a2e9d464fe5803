"""A mixture of pre-trained experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from matmosaic.backbones import unfreeze
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.estimators._experts import expert_names, resolve_experts
from matmosaic.estimators.persistence import SavableRegressor
from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning import MixtureModel, TableDataset
from matmosaic.learning.aggregation import AGGREGATIONS
from matmosaic.learning.gate import Gate

TRANSFER_RATE = 5e-3


class MoERegressor(SavableRegressor):
    def __init__(
        self,
        modules: Any,
        *,
        n_active: int | None = None,
        aggregation: str = "add",
        gate_init: Any = "uniform",
        gate_penalty: float = 0.01,
        width: int | None = None,
        standardize: bool = True,
        unfrozen: Unfrozen = "last",
        head_widths: Sequence[int] = (32, 32),
        trunk_memory: int = 2**31,
        max_epochs: int = 300,
        patience: int | None = None,
        batch_size: int = 250,
        learning_rate: float = 1e-2,
        backbone_learning_rate: float | None = None,
        validation_fraction: float = 0.15,
        weighted_sampling: bool = False,
        compress: bool = True,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        n_jobs: int | None = None,
        memory: Any = None,
        callbacks: Sequence[Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.modules = modules
        self.n_active = n_active
        self.aggregation = aggregation
        self.gate_init = gate_init
        self.gate_penalty = gate_penalty
        self.width = width
        self.standardize = standardize
        self.unfrozen = unfrozen
        self.head_widths = head_widths
        self.trunk_memory = trunk_memory
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.backbone_learning_rate = backbone_learning_rate
        self.validation_fraction = validation_fraction
        self.weighted_sampling = weighted_sampling
        self.compress = compress
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.memory = memory
        self.callbacks = callbacks
        self.verbose = verbose

    def _model(self) -> MixtureModel:
        modules = resolve_experts(self.modules)
        self._check_n_active(len(modules))
        self.module_cards_ = [module.card for module in modules]
        self.module_names_ = expert_names(self.module_cards_)
        experts = [module.build_backbone() for module in modules]
        for expert in experts:
            self.unfrozen_ = unfreeze(expert, self.unfrozen)
        race = self._n_active() if self.gate_init == "uniform" else len(experts)
        return self._mixture(experts, self.module_names_, torch.ones(len(experts)), race)

    def _n_active(self) -> int:
        return self.n_active or len(self.module_names_)

    def _mixture(self, experts, names, scores, n_active) -> MixtureModel:
        widths = [expert.n_features for expert in experts]
        options = {"width": self.width} if self.aggregation == "add" else {}
        return MixtureModel(
            experts,
            names,
            Gate(scores, n_active),
            AGGREGATIONS[self.aggregation](widths, self.head_widths, **options),
            gate_penalty=self.gate_penalty,
            max_trunk_bytes=self.trunk_memory,
        )

    def _learn(self, model: Any, train: TableDataset, validation: TableDataset | None) -> None:
        features = None
        chosen = list(range(len(model.experts)))
        scores = None
        if self._n_active() < len(chosen) and self.gate_init != "uniform":
            features = model.all_features(train, batch_size=self.batch_size)
            scores = self._scores(model, train, features)
            chosen = sorted(np.argsort(-scores, kind="stable")[: self._n_active()].tolist())
            features = [features[one] for one in chosen]
            theta = torch.ones(len(chosen))
            model = self._mixture(
                [model.experts[one] for one in chosen],
                [model.names[one] for one in chosen],
                theta,
                len(chosen),
            ).to(train.targets.device)
            train = train.on(train.table.of_experts(chosen))
            validation = None if validation is None else validation.on(validation.table.of_experts(chosen))
        if self.standardize:
            features = features or model.all_features(train, batch_size=self.batch_size)
            model.aggregation.fit_scales(features, train.targets[:, 1])
        self._train(model, train, validation)
        self.gate_scores_ = np.zeros(len(self.module_names_))
        self.gate_scores_[chosen] = model.gate.all_weights().cpu().numpy()
        self.gate_scores_ /= self.gate_scores_.sum()
        self._chosen = chosen

    def _check_n_active(self, n):
        if self.n_active is not None and self.n_active > n:
            raise InvalidParameterError("n_active")

    def _backbone_learning_rate(self) -> float:
        return TRANSFER_RATE if self.backbone_learning_rate is None else self.backbone_learning_rate

    def _to_files(self, *, target, unit):
        raise NotImplementedError

    def _restore(self, *a):
        raise NotImplementedError
