"""A mixture of pre-trained experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.backbones.freezing import Unfrozen
from matmosaic.estimators._experts import table_of_modules
from matmosaic.estimators._mixing import MixtureRegressor
from matmosaic.estimators._shared import documented


@documented
class MoERegressor(MixtureRegressor):
    r"""Mix the features of several pre-trained modules and featurizers, weighted by a learned gate.

    The features of structure *x* are :math:`\sum_i G_i E_i(x)` over the modules' backbones
    :math:`E_i`, with :math:`G = \mathrm{softmax}(\mathrm{KeepTopK}(\theta, k))`; a new head predicts
    the property from them. The loss is the mean error plus
    :math:`\lambda (G \cdot G - 1)^2`. What is frozen is evaluated once per structure and kept; an epoch
    costs what the *k* active experts cost. Features of a featurizer are standardised on the training rows,
    the mean put where one is undefined, and mapped to the width of the modules by a learned linear map.

    Parameters
    ----------
    modules : str, path-like, PretrainedModule, Featurizer, or sequence of these
        What to mix: references such as ``"bundled:emt-eform"`` or ``"featurizer:matminer-fast"``, globs
        such as ``"bundled:*"``, directories of modules, modules, featurizers, or a list of any of these.
    n_active : int or None, default=None
        Number *k* of experts that are mixed; None for all.
    aggregation : {"add", "concat", "ensemble"}, default="add"
        One head on the weighted sum of features; one head on all weighted features side by side; or a
        head per expert and the weighted mean of their predictions.
    gate_init : {"proxy", "warmup", "uniform"} or array-like of shape (n_modules,), default="proxy"
        How the *k* experts are chosen if not all are active. ``"proxy"``: those whose features let
        the nearest neighbours predict the labels best, leave one out; its time grows with the square
        of the rows. ``"warmup"``: those with the largest scores after 20 epochs with all experts, or
        ``max_epochs`` if that is less; the first *k* after none. ``"uniform"``: all scores start at 1
        and compete in training, as published: the first few steps decide. Or scores of your own.
    gate_penalty : float, default=0.01
        Factor :math:`\lambda` of the penalty that favours few experts.
    width : int or None, default=None
        What features are mapped to first, by a learned linear map: those of featurizers, and with
        ``"add"`` those of all modules. None stands for the width of most modules (64 if there are none),
        and then modules of this width are not mapped.
    standardize : bool, default=True
        Let the heads see features of zero mean and unit spread on the training rows. False is the
        published model.
    unfrozen : str or sequence of str, default="last"
        What of each module is trained besides gate and head: ``"head"`` (nothing), ``"last"`` (the
        last layer), ``"all"``, or names of layer groups that all modules have.
    head_widths : sequence of int, default=(32, 32)
        Hidden layers of a head.
    guard : {"none", "report", "fallback"}, default="none"
        Compare with simple answers on the validation rows: the median, each module's own head
        rescaled to the labels, ridge on all frozen features. ``"report"`` keeps the errors in
        ``guard_`` and warns if one is better; ``"fallback"`` then predicts with the best. All simple
        answers but a network from scratch predict on the CPU.
    guard_scratch : bool, default=False
        Let the guard also train a network from scratch: that of the first module that was kept.
    loss : {"mse", "l1"}, default="mse"
        Squared or absolute errors of the scaled labels.
    trunk_memory : int, default=2147483648
        Bytes of outputs of frozen layers that are kept in memory; more goes to temporary files. As
        much again for ``X_val``; a GPU keeps all.
    max_epochs : int, default=100
        Length of the schedule. 0 trains nothing.
    patience : int or None, default=None
        Epochs without a better validation error before training stops early; None never stops
        early. The best epoch is restored in any case.
    batch_size : int, default=250
        Structures per step.
    learning_rate : float, default=0.01
        Of gate and head.
    backbone_learning_rate : float or None, default=None
        Of the experts; None means 0.005.
    ... and how it is trained

    Attributes
    ----------
    gate_scores_ : ndarray of shape (n_modules,)
        Weight of each module; they sum to 1, and are 0 for modules that are not active.
    module_names_ : list of str, length n_modules
        Names of the modules; of featurizers those of their references, or of their classes.
    module_cards_ : list of ModuleCard and FeaturizerCard, length n_modules
        Their cards. That of a featurizer holds its ``name`` and ``identity``.
    guard_ : pandas.DataFrame or None
        ``valid_mae`` (unit of y) of the mixture and of each simple answer, best first. A network's is
        that of its best epoch, which was chosen on these rows: a little too small, unlike the others.
    answer_ : str
        Name of what predicts: ``"mixture"``, or with ``guard="fallback"`` perhaps another row of
        ``guard_``.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the network of the active experts.
    history_ : pandas.DataFrame
        A row per epoch: ``train_loss`` (with the gate's penalty) and ``valid_loss`` (scaled labels,
        squared), ``valid_mae`` (unit of y), ``dur`` (seconds).
    best_epoch_ : int
        The epoch that was restored, counted from 1.
    unfrozen_ : list of str
        Names of the experts' parameters that were trained.
    scale_ : TargetScale
        Mean and standard deviation of the training labels.
    n_train_ : int
        Number of training rows, without the validation rows.

    References
    ----------
    Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x; the proxy
    is that of Wang et al., arXiv:2502.15483.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> model = MoERegressor("bundled:*", n_active=2, max_epochs=5, random_state=0)
    >>> model.fit(X[:60], y[:60]).predict(X[60:65]).shape
    (5,)
    >>> int((model.gate_scores_ > 0).sum())
    2
    """

    def __init__(
        self,
        modules: Any,
        *,
        n_active: int | None = None,
        aggregation: Literal["add", "concat", "ensemble"] = "add",
        gate_init: str | Sequence[float] | np.ndarray = "proxy",
        gate_penalty: float = 0.01,
        width: int | None = None,
        standardize: bool = True,
        unfrozen: Unfrozen = "last",
        head_widths: Sequence[int] = (32, 32),
        guard: Literal["none", "report", "fallback"] = "none",
        guard_scratch: bool = False,
        loss: Literal["mse", "l1"] = "mse",
        trunk_memory: int = 2**31,
        max_epochs: int = 100,
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
        self.guard = guard
        self.guard_scratch = guard_scratch
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

    def explain(self) -> pd.DataFrame:
        """Return what the mixture is made of.

        Returns
        -------
        DataFrame
            A row per module, the heaviest first, indexed by name: ``gate_score`` (they sum to 1),
            ``active``, and ``target``, ``unit``, ``dataset`` and ``license_weights`` of its card, None for
            a featurizer.
        """
        check_is_fitted(self, "net_")
        scores = self.gate_scores_
        return table_of_modules(self.module_names_, self.module_cards_, gate_score=scores, active=scores > 0)
