"""Compose a module for a task out of a hub of modules, and fine-tune it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from matmosaic.backbones import Backbone, unfreeze
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.estimators._adapters import Kind, kind_of_mean, with_adapters
from matmosaic.estimators._composing import (
    Candidates,
    Rows,
    check_networks,
    fixed_mixture,
    mean_module,
    through_trunks,
)
from matmosaic.estimators._experts import expert_names, resolve_experts, table_of_modules, unfreeze_experts
from matmosaic.estimators._featurizers import Source, card_from_dict
from matmosaic.estimators._guard import MIXTURE
from matmosaic.estimators._mixture_files import SavedMixture, mixture_files
from matmosaic.estimators._shared import documented
from matmosaic.estimators._weighting import Proxies, warn_of_no_use
from matmosaic.estimators.persistence import SavableRegressor, SavedFiles
from matmosaic.estimators.single import SingleBackboneRegressor
from matmosaic.estimators.transfer import TRANSFER_RATE
from matmosaic.exceptions import InvalidParameterError
from matmosaic.learning import MixtureModel, OneProperty, RegressionModel, TableDataset, TargetScale
from matmosaic.learning.merging import check_mergeable
from matmosaic.modules import ModuleCard, PretrainedModule

# What a saved estimator keeps beside its network.
LEARNT = ("weights_", "proxy_errors_", "proxy_error_", "mean_error_")


@documented
class ComposedRegressor(SingleBackboneRegressor):
    r"""Weigh the modules of a hub for a task, average their parameters, and fine-tune the mean.

    How useful module *m* is shows without training: in its frozen features, the label of each training
    structure is predicted from those of its nearest neighbours, itself left out. The weights are those of
    the convex combination of these predictions that comes closest to the labels,

    .. math:: \min_w \sum_i s_i \Big(\sum_m w_m \hat y_{mi} - y_i\Big)^2,
        \quad w_m \ge 0, \quad \sum_m w_m = 1

    and the modules' parameters are averaged with them. The mean gets a new head and is fine-tuned as
    :class:`TransferRegressor` does it. All that looks at ``y`` happens in ``fit``, on the training rows:
    validation rows have no part in the weights.

    Parameters
    ----------
    modules : str, path-like, PretrainedModule, Featurizer, or sequence of these, default="bundled:emt-*"
        The hub: references, globs such as ``"bundled:emt-*"``, directories of modules, modules, or a list of
        any of these; with ``combine="features"`` featurizers, too, such as ``"featurizer:matminer-fast"``.
    weighting : {"optimised", "selected-average", "all-average", "random"}, default="optimised"
        Other weights, to see what the optimised ones are worth. ``"selected-average"``: equal ones for
        the modules that they select; ``"random"``: equal ones for as many modules, drawn at random;
        ``"all-average"``: equal ones for all modules, whatever ``max_modules`` and ``min_weight``.
    combine : {"parameters", "features"}, default="parameters"
        What is averaged. ``"parameters"`` gives one network, and needs modules of one architecture that were
        started from the same ``base``. ``"features"`` mixes what any networks give, as
        :class:`MoERegressor` does but with fixed weights: their sum, or all side by side where modules have
        different widths; each selected module is run.
    max_modules : int or None, default=None
        The most modules with a weight; None for any number. The lightest are dropped one after the other,
        and the program is solved again for those that are left.
    min_weight : float, default=0.0
        The smallest weight that a module may have; lighter ones are dropped likewise.
    n_neighbors : int, default=5
        Neighbours that a label is predicted from.
    temperature : float, default=0.2
        *T* in their weights :math:`e^{\cos / T}`, dimensionless; the default is that of the published code.
    unfrozen : str or sequence of str, default="last"
        What of the composed network is trained besides the head: ``"head"`` (nothing), ``"last"`` (the last
        layer), ``"all"``, names of layer groups, or, with ``"parameters"``, ``"adapters"``, as for
        :class:`TransferRegressor`.
    head_widths : sequence of int, default=(32, 32)
        Hidden layers of the head; empty for a linear one.
    loss : {"mse", "l1"}, default="mse"
        Squared or absolute errors of the scaled labels.
    trunk_memory : int, default=2147483648
        With ``"features"``, bytes of outputs of frozen layers that are kept in memory; more goes to temporary
        files.
    max_epochs : int, default=300
        Length of the schedule. 0 trains nothing.
    patience : int or None, default=None
        Epochs without a better validation error before training stops early; None never stops
        early. The best epoch is restored in any case.
    batch_size : int, default=250
        Structures per step.
    learning_rate : float, default=0.01
        Of the head.
    backbone_learning_rate : float or None, default=None
        Of the backbone; None means 0.005.
    ... and how it is trained

    Attributes
    ----------
    weights_ : ndarray of shape (n_modules,)
        Weight of each module; they sum to 1.
    module_names_ : list of str, length n_modules
        Names of the modules.
    module_cards_ : list of ModuleCard and FeaturizerCard, length n_modules
        Their cards.
    proxy_errors_ : ndarray of shape (n_modules,)
        Root mean squared error of the neighbours' predictions of each module on the training rows, each left
        out once, in the unit of y. It is the root of what the weights minimise.
    proxy_error_ : float
        The same of the weighted mean of these predictions; with ``weighting="optimised"`` and no limits
        at most that of the best module.
    mean_error_ : float
        The same of the mean of the other labels, for comparison.
    composed_card_ : ModuleCard or None
        Of the mean: its ``sources`` are the modules that have a weight, its licence has all terms of theirs
        (none, if one of them has none). None with ``combine="features"``.
    net_, history_, best_epoch_, unfrozen_, scale_, n_train_
        As of :class:`TransferRegressor`.

    Raises
    ------
    ArchitectureMismatchError
        In ``fit``, if parameters cannot be averaged; the message names what differs, in which modules.
    InvalidParameterError
        In ``fit``, if there are featurizers, which have none to average.

    Warns
    -----
    NegativeTransferWarning
        If no module's neighbours predict better than the mean of the labels.
    SolverWarning
        If a solver of the weights fails and another takes over.

    References
    ----------
    Wang et al., MoMa, arXiv:2502.15483 (2025).

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> model = ComposedRegressor("bundled:emt-*", max_epochs=5, random_state=0)
    >>> model.fit(X[:60], y[:60]).predict(X[60:65]).shape
    (5,)
    >>> float(model.weights_.sum().round(6))
    1.0
    """

    # Heads of several modules are of several properties, and what is averaged has none.
    head = "new"

    def __init__(
        self,
        modules: Any = "bundled:emt-*",
        *,
        weighting: Literal["optimised", "selected-average", "all-average", "random"] = "optimised",
        combine: Literal["parameters", "features"] = "parameters",
        max_modules: int | None = None,
        min_weight: float = 0.0,
        n_neighbors: int = 5,
        temperature: float = 0.2,
        unfrozen: Unfrozen = "last",
        head_widths: Sequence[int] = (32, 32),
        loss: Literal["mse", "l1"] = "mse",
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
        self.weighting = weighting
        self.combine = combine
        self.max_modules = max_modules
        self.min_weight = min_weight
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.unfrozen = unfrozen
        self.head_widths = head_widths
        self.loss = loss
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

    @property
    def composed_card_(self) -> ModuleCard | None:
        """Card of the mean of the modules."""
        check_is_fitted(self, "net_")
        return self.module_card_

    def explain(self) -> pd.DataFrame:
        """Return what was composed.

        Returns
        -------
        DataFrame
            A row per module, the heaviest first, indexed by name: ``weight`` (they sum to 1), ``proxy_error``
            (root mean square, unit of y), and ``target``, ``unit``, ``dataset`` and ``license_weights`` of
            its card.
        """
        check_is_fitted(self, "net_")
        learnt = {"weight": self.weights_, "proxy_error": self.proxy_errors_}
        return table_of_modules(self.module_names_, self.module_cards_, **learnt)

    def _model(self) -> Any:
        """Return all modules, frozen, side by side: what shows how useful each is."""
        modules = resolve_experts(self.modules)
        self.module_cards_ = [module.card for module in modules]
        self.module_names_ = expert_names(self.module_cards_)
        if self.combine == "parameters":
            check_mergeable(check_networks(modules), self.module_names_)
        with torch.random.fork_rng([]):
            experts = [module.build_backbone() for module in modules]
            self._check_unfrozen(experts, modules)
        for expert in experts:
            unfreeze(expert, "head")
        return Candidates(modules, experts, self.module_names_, max_trunk_bytes=self.trunk_memory)

    def _check_unfrozen(self, experts: Sequence[Backbone], modules: Sequence[Source]) -> None:
        """Raise UnknownNameError for a layer group that does not exist, before the graphs are built."""
        if self.combine == "parameters":
            (first, *_) = check_networks(modules)
            experts = [with_adapters(first.build_backbone(), first, self.unfrozen)]
        unfreeze_experts(experts, self.unfrozen, "ComposedRegressor(combine='features')")

    def _learn(self, model: Any, train: TableDataset, validation: TableDataset | None) -> None:
        model.fit_featurizers(train)
        self._weigh(model.all_features(train, batch_size=self.batch_size), train)
        warn_of_no_use(self.proxy_errors_, self.mean_error_, self.module_names_)
        combine = self._average if self.combine == "parameters" else self._mix
        self._train(*combine(model.sources, (train, validation)))

    def _weigh(self, features: Sequence[Tensor], train: TableDataset) -> None:
        neighbours: dict[str, Any] = {"n_neighbors": self.n_neighbors, "temperature": self.temperature}
        proxies = Proxies.of(features, train, names=self.module_names_, **neighbours)
        limits: dict[str, Any] = {"max_modules": self.max_modules, "min_weight": self.min_weight}
        self.weights_ = proxies.weights(self.weighting, **limits)
        unit = cast("TargetScale", self.scale_).std
        self.proxy_errors_ = unit * proxies.errors()
        self.proxy_error_ = unit * proxies.error(self.weights_)
        self.mean_error_ = unit * proxies.mean_error()

    def _average(
        self, modules: Sequence[Source], rows: Rows
    ) -> tuple[RegressionModel, TableDataset, TableDataset | None]:
        """Return the network of mean parameters with a new head, and rows of what its trunk gives."""
        graphs = rows[0].raw()
        options: dict[str, Any] = {"batch_size": self.batch_size}
        networks = check_networks(modules)
        self._composed = mean_module(networks, self.weights_, graphs, names=self.module_names_, **options)
        model = super()._model().to(graphs.table.device)
        del self._composed
        train, validation = through_trunks(model, rows, **options)
        model.scale_features(train, **options)
        return model, train, validation

    def _backbone(self) -> tuple[Backbone, PretrainedModule]:
        return self._composed.build_backbone(), self._composed

    def _mix(
        self, modules: Sequence[Source], rows: Rows
    ) -> tuple[MixtureModel, TableDataset, TableDataset | None]:
        """Return a mixture of fixed weights with a new head, and rows of what its trunks give."""
        chosen = np.flatnonzero(self.weights_).tolist()
        experts = [modules[one].build_backbone() for one in chosen]
        self.unfrozen_ = unfreeze_experts(experts, self.unfrozen, "ComposedRegressor(combine='features')")
        self.module_card_, self._base = None, None
        names = [self.module_names_[one] for one in chosen]
        options: dict[str, Any] = {"head_widths": self.head_widths, "max_trunk_bytes": self.trunk_memory}
        model = fixed_mixture(experts, names, self.weights_[chosen], **options).to(rows[0].table.device)
        train, validation = through_trunks(model, rows, batch_size=self.batch_size, experts=chosen)
        model.fit_featurizers(train)
        features = model.all_features(train, batch_size=self.batch_size)
        model.aggregation.fit_scales(features, train.targets[:, 1])
        return model, train, validation

    def _backbone_learning_rate(self) -> float:
        return TRANSFER_RATE if self.backbone_learning_rate is None else self.backbone_learning_rate

    def to_module(
        self,
        *,
        license_weights: str | None = None,
        references: Sequence[str] = (),
        kind: Kind | None = None,
        **about: Any,
    ) -> PretrainedModule:
        """Export what was learnt as a module; see :meth:`TransferRegressor.to_module`.

        Parameters
        ----------
        license_weights : str, optional
            SPDX identifier of the licence that you give the weights; by default what has all terms of those
            of the modules that have a weight, none if one of them has none.
        references : sequence of str, optional
            What to cite besides the references of these modules.
        kind : {"full", "adapter"}, optional
            ``"adapter"``, the default there, needs modules of adapters: nobody has the mean of others.
        **about
            ``name``, ``target``, ``unit``, and the others of :meth:`TransferRegressor.to_module`.

        Returns
        -------
        PretrainedModule
            Whose card names its ``sources``.

        Raises
        ------
        InvalidParameterError
            With ``combine="features"``, which gives several networks; for adapters of a mean of networks.
        """
        card = self.composed_card_
        if card is None:
            raise InvalidParameterError(
                "combine='features' gives several networks, which are no module. save() keeps them; "
                "combine='parameters' gives one network."
            )
        about["references"] = list(dict.fromkeys([*references, *card.references]))
        about["license_weights"] = license_weights or card.license_weights
        module = super().to_module(kind=kind_of_mean(kind, card), **about)
        return PretrainedModule(replace(module.card, sources=card.sources), module.weights, base=module.base)

    def _to_files(self, *, target: Any, unit: Any) -> dict[str, bytes]:
        if self.composed_card_ is not None:
            return super()._to_files(target=target, unit=unit)
        return mixture_files(
            cast("MixtureModel", self.net_.module_),
            modules=self.module_cards_,
            guard=None,
            fallback=None,
            answer=MIXTURE,
            active=np.flatnonzero(self.weights_).tolist(),
            scale=self.scale_,
            n_train=self.n_train_,
            fingerprints=self._fingerprints,
            target=target,
            unit=unit,
        )

    def _to_dict(self) -> dict[str, Any]:
        learnt = {name: np.asarray(getattr(self, name)).tolist() for name in LEARNT}
        modules = [card.to_dict() for card in self.module_cards_]
        return {**super()._to_dict(), "modules": modules, "learnt": learnt}

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        self.module_cards_ = [card_from_dict(card) for card in document["modules"]]
        self.module_names_ = expert_names(self.module_cards_)
        for name in LEARNT:
            value = document["learnt"][name]
            setattr(self, name, np.array(value) if isinstance(value, list) else value)
        if document["module_card"] is None:
            self._restore_mixture(document, contents, source)
        else:
            super()._restore(document, contents, source)

    def _restore_mixture(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        SavableRegressor._restore(self, document, contents, source)
        self._task = OneProperty(document["label_name"])
        self.module_card_, self._base = None, None
        saved = SavedMixture.read(contents)
        card = saved.card
        self.scale_, self.n_train_, self._fingerprints = card.scale, card.n_train, card.fingerprints
        model = saved.model(self.module_names_, max_trunk_bytes=self.trunk_memory)
        model.gate.requires_grad_(False)
        self.net_ = self._net(model)
