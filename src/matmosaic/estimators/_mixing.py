"""How a mixture of experts is fitted: its network, the choice of experts, the guard, and its files."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matmosaic.backbones import Backbone
from matmosaic.estimators._experts import (
    check_n_active,
    expert_names,
    projected_widths,
    resolve_experts,
    unfreeze_experts,
)
from matmosaic.estimators._featurizers import Card, Source, with_expert
from matmosaic.estimators._gating import best, check_warm_up, given_scores, proxy_scores
from matmosaic.estimators._guard import MIXTURE, Answer, Guard, train_scratch
from matmosaic.estimators._mixture_files import SavedMixture, mixture_files
from matmosaic.estimators.persistence import SavableRegressor, SavedFiles
from matmosaic.estimators.transfer import TRANSFER_RATE
from matmosaic.learning import MixtureModel, TableDataset, TargetScale, predict_rows
from matmosaic.learning.aggregation import AGGREGATIONS
from matmosaic.learning.gate import Gate
from matmosaic.modules import ModuleCard

WARM_UP_EPOCHS = 20


class MixtureRegressor(SavableRegressor):
    """The steps of :class:`MoERegressor`, which has the parameters in its constructor."""

    scale_: TargetScale
    module_cards_: list[Card]
    _modules: list[Source]
    _fallback: Answer | None

    def _model(self) -> MixtureModel:
        modules = resolve_experts(self.modules)
        # Until the guard has them: what a reference names may change or vanish before.
        self._modules = modules
        self.module_cards_ = [module.card for module in modules]
        self.module_names_ = expert_names(self.module_cards_)
        check_n_active(self.n_active, self.module_names_)
        if not isinstance(self.gate_init, str):
            given_scores(self.gate_init, len(modules))
        with torch.random.fork_rng([]):  # One module more must not change what is drawn later.
            experts = [module.build_backbone() for module in modules]
        self.unfrozen_ = unfreeze_experts(experts, self.unfrozen, "MoERegressor")
        projected = projected_widths(experts, self.width, add=self.aggregation == "add")
        race = isinstance(self.gate_init, str) and self.gate_init == "uniform"
        n_active = self._n_active() if race else len(experts)
        gate = Gate(torch.ones(len(experts)), n_active)
        return self._mixture(experts, self.module_names_, gate, projected)

    def _learn(self, model: Any, train: TableDataset, validation: TableDataset | None) -> None:
        model.fit_featurizers(train)
        frozen = model.all_features(train, batch_size=self.batch_size)
        guard = self._start_guard(model, frozen, train, validation)
        del self._modules
        self._chosen = self._choose(model, frozen, train)
        if len(self._chosen) < len(model.experts):
            model = self._of_chosen(model, train, validation)
        self._scale_features(model, [frozen[one] for one in self._chosen], train)
        del frozen  # Training needs the memory.
        self._train(model, train, validation)
        self.gate_scores_ = self._gate_scores()
        self._finish_guard(guard, train, validation)

    def _gate_scores(self) -> np.ndarray:
        scores = np.zeros(len(self.module_names_))
        scores[self._chosen] = self.net_.module_.gate.all_weights().double().cpu().numpy()
        return scores / scores.sum()

    def _scale_features(self, model: MixtureModel, features: Sequence[Tensor], rows: TableDataset) -> None:
        if self.standardize:
            model.aggregation.fit_scales(list(features), rows.targets[:, 1])

    def _choose(self, model: MixtureModel, frozen: Sequence[Tensor], train: TableDataset) -> list[int]:
        """Return the numbers of the experts to train; set first scores of the gate that were given."""
        n_experts = len(model.experts)
        if not isinstance(self.gate_init, str):
            scores = given_scores(self.gate_init, n_experts)
            model.gate.start_from(scores)
        elif self.gate_init == "uniform" or self._n_active() == n_experts:
            return list(range(n_experts))
        elif self.gate_init == "proxy":
            scores = proxy_scores(frozen, train, names=model.names)
        else:
            scores = self._warm_up(model, frozen, train)
        return best(scores, self._n_active())

    def _warm_up(self, model: MixtureModel, frozen: Sequence[Tensor], train: TableDataset) -> np.ndarray:
        """Return the scores that a short training of a copy, with all experts, learns."""
        model = copy.deepcopy(model)
        self._scale_features(model, frozen, train)
        n_epochs = min(WARM_UP_EPOCHS, self.max_epochs)
        net = self._net(model, None, self._probabilities(train), max_epochs=n_epochs, callbacks=None)
        net.partial_fit(train)
        scores = model.gate.scores.detach().double().cpu().numpy()
        check_warm_up(net.history, n_epochs, scores)
        return scores

    def _of_chosen(self, model: MixtureModel, *rows: TableDataset | None) -> MixtureModel:
        """Return the mixture of the chosen experts; the rows forget what the others' trunks gave."""
        tables: set[Any] = {one.table for one in rows if one is not None}
        for table in tables:  # In place: callers hold the rows, which may share a table.
            table.keep_experts(self._chosen)
        experts = [model.backbones[one] for one in self._chosen]
        gate = Gate(model.gate.scores.detach()[self._chosen], len(experts))
        names = [model.names[one] for one in self._chosen]
        projected = [model.aggregation.projected[one] for one in self._chosen]
        return self._mixture(experts, names, gate, projected).to(gate.scores.device)

    def _start_guard(
        self,
        model: MixtureModel,
        frozen: Sequence[Tensor],
        train: TableDataset,
        validation: TableDataset | None,
    ) -> Guard | None:
        """Fit the simple answers while the experts are as their modules have them."""
        if self.guard == "none":
            return None
        assert validation is not None
        features = model.all_features(validation, batch_size=self.batch_size)
        modules = list(map(with_expert, self._modules, model.backbones))
        return Guard(modules, self.module_names_, (train, frozen), (validation, features), self.scale_)

    def _finish_guard(
        self, guard: Guard | None, train: TableDataset, validation: TableDataset | None
    ) -> None:
        """Compare the trained mixture with the simple answers."""
        self.answer_, self.guard_, self._fallback = MIXTURE, None, None
        if guard is None or validation is None:
            return
        guard.add(MIXTURE, predict_rows(self.net_.module_, validation, batch_size=self.batch_size))
        if self.guard_scratch:
            self._add_scratch(guard, train, validation)
        self.guard_ = guard.table()
        if self.guard == "fallback":
            self.answer_, self._fallback = guard.winner(n_jobs=self.n_jobs, memory=self.memory)
        else:
            guard.warn()

    def _add_scratch(self, guard: Guard, train: TableDataset, validation: TableDataset) -> None:
        """Add the network, trained from scratch, of the first module that was kept, if any has one."""
        cards = [self.module_cards_[one] for one in self._chosen]
        for place, card in enumerate(cards):
            if isinstance(card, ModuleCard):
                rows = train.raw(place), validation.raw(place)
                scratch = train_scratch(card, self.get_params(deep=False), *rows, scale=self.scale_)
                outputs = predict_rows(scratch.net_.module_, rows[1], batch_size=self.batch_size)
                guard.add("scratch", outputs, scratch)
                return

    def _n_active(self) -> int:
        return len(self.module_names_) if self.n_active is None else self.n_active

    def _mixture(
        self,
        experts: Sequence[Backbone],
        names: Sequence[str],
        gate: Gate,
        projected: Sequence[int | None],
    ) -> MixtureModel:
        widths = [expert.n_features for expert in experts]
        with torch.random.fork_rng([]):
            # Heads start alike, whatever experts were left out before.
            torch.default_generator.manual_seed(torch.initial_seed())
            aggregation = AGGREGATIONS[self.aggregation](widths, self.head_widths, projected)
        return MixtureModel(
            experts,
            names,
            gate,
            aggregation,
            gate_penalty=self.gate_penalty,
            max_trunk_bytes=self.trunk_memory,
        )

    def _backbone_learning_rate(self) -> float:
        return TRANSFER_RATE if self.backbone_learning_rate is None else self.backbone_learning_rate

    def _predict(self, X: Any) -> np.ndarray:
        return super()._predict(X) if self._fallback is None else self._fallback.predict(X)

    def _elements(self) -> frozenset[int] | None:
        return super()._elements() if self._fallback is None else self._fallback._elements()

    def _to_files(self, *, target: Any, unit: Any) -> dict[str, bytes]:
        return mixture_files(
            self.net_.module_,
            modules=self.module_cards_,
            guard=self.guard_,
            fallback=self._fallback,
            answer=self.answer_,
            active=self._chosen,
            scale=self.scale_,
            n_train=self.n_train_,
            fingerprints=self._fingerprints,
            target=target,
            unit=unit,
        )

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        super()._restore(document, contents, source)
        saved = SavedMixture.read(contents)
        card = saved.card
        self.module_cards_ = saved.modules
        self.module_names_ = expert_names(saved.modules)
        self.scale_, self.n_train_, self._fingerprints = card.scale, card.n_train, card.fingerprints
        training = {"gate_penalty": self.gate_penalty, "max_trunk_bytes": self.trunk_memory}
        self.net_ = self._net(saved.model(self.module_names_, **training))
        self._chosen = card.active
        self.gate_scores_ = self._gate_scores()
        self.answer_, self.guard_ = card.answer, saved.guard()
        self._fallback = saved.fallback(n_jobs=self.n_jobs, memory=self.memory, device=self.device)
