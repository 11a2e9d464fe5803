"""Fine-tune one pre-trained module, or train from scratch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Literal

import numpy as np

from matmosaic import plugins
from matmosaic.backbones import Backbone
from matmosaic.backbones.freezing import Unfrozen
from matmosaic.backbones.making import make_backbone
from matmosaic.estimators.single import SingleBackboneRegressor
from matmosaic.exceptions import InvalidParameterError
from matmosaic.graphs import GraphSettings
from matmosaic.modules import PretrainedModule, load_module

# Chang et al. train transferred layers at half the rate of the new head.
TRANSFER_RATE = 5e-3


class TransferRegressor(SingleBackboneRegressor):
    """Fine-tune one pre-trained module on a property with few labels, or train from scratch.

    The module's backbone gets a new head, or keeps its own. What is frozen is evaluated once per
    structure and kept; each epoch trains the rest: Adam with one rate for the head and one for the
    backbone, a cosine schedule, and the epoch with the smallest validation error restored, backbone
    and head.

    Parameters
    ----------
    module : str, path-like, PretrainedModule or None, default=None
        What to start from: a reference such as ``"bundled:emt-eform"``, the directory of a
        module, or a module. None trains from scratch.
    backbone : str, default="cgcnn"
        Network to train from scratch, a name in the plugin group ``matmosaic.backbones``; not
        used with a module, which brings its own.
    backbone_options : dict, optional
        Its constructor arguments, such as ``{"width": 32}``.
    graph_settings : GraphSettings, optional
        How structures become graphs when training from scratch.
    unfrozen : str or sequence of str, default="last"
        What of the module is trained besides the head: ``"head"`` (nothing), ``"last"`` (the last
        layer), ``"all"``, or names of layer groups. Training from scratch trains everything. ``"adapters"``
        inserts small layers between those of the module, if it has none, and trains these: then
        :meth:`to_module` gives a module of adapters alone.
    head : {"new", "inherit"}, default="new"
        ``"inherit"`` starts from the module's own head and keeps the scale that its labels were learnt
        on, so that after 0 epochs the estimator predicts what the module does; ``y`` must be in the
        unit of the module. Of a module of several properties, the head is inherited that ``y``, a
        Series, is named after. The default starts anew, as labels are mostly of another property.
    head_widths : sequence of int, default=(32, 32)
        Hidden layers of a new head; empty for a linear one.
    loss : {"mse", "l1"}, default="mse"
        Squared or absolute errors of the scaled labels.
    max_epochs : int, default=300
        Length of the schedule. 0 trains nothing.
    patience : int or None, default=None
        Epochs without a better validation error before training stops early; None never stops
        early. The best epoch is restored in any case.
    batch_size : int, default=250
        Structures per step.
    learning_rate : float, default=0.01
        Of the head, and of everything from scratch.
    backbone_learning_rate : float or None, default=None
        Of the backbone; None means 0.005 for a module and ``learning_rate`` from scratch.
    validation_fraction : float, default=0.15
        Share of the rows that are held out to choose the best epoch; 0 keeps the last epoch.
    weighted_sampling : bool, default=False
        Draw training rows so that 30 bins of the labels have equal chances, for skewed labels.
    compress : bool, default=True
        Compute equal atoms and bonds of a crystal once; same result, less time.
    random_state : int, RandomState or None, default=None
        An int makes a fit on the CPU reproducible bit for bit.
    device : str, default="auto"
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    n_jobs : int or None, default=None
        Processes that build graphs.
    memory : None, str, path-like or joblib.Memory, default=None
        Folder where graphs are kept for other processes and later runs.
    callbacks : list of skorch callbacks, optional
        For example a progress bar, ``skorch.callbacks.EpochScoring`` or a logger.
    verbose : int, default=0
        0 prints nothing, 1 a line per epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the network.
    history_ : pandas.DataFrame
        A row per epoch: ``train_loss``, ``valid_loss`` (scaled labels), ``valid_mae`` (unit of y),
        ``dur`` (seconds).
    best_epoch_ : int
        The epoch that was restored, counted from 1.
    unfrozen_ : list of str
        Names of the backbone's parameters that were trained.
    module_card_ : ModuleCard or None
        Of the module that was fine-tuned.
    scale_ : TargetScale
        Mean and standard deviation of the training labels, or those of the inherited head.
    n_train_ : int
        Number of training rows, without the validation rows.

    Warns
    -----
    UnusedHeadWarning
        If ``y`` is named after a property that the module has a head for, and a new one is made.

    Notes
    -----
    The strategies of Devi et al.: 1, everything is fine-tuned, ``unfrozen="all"``; 2, a new head on a
    frozen network, ``unfrozen="head"``, where two linear layers without an activation between them, as
    published, are one linear map, ``head_widths=()``; 3, the network's last layer alone, which is the
    head, ``unfrozen="head", head="inherit"``; 4, layers of bonds or of angles alone, groups of the
    backbone such as ``unfrozen="two_body"``.

    References
    ----------
    Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x.
    Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> model = TransferRegressor("bundled:emt-eform", max_epochs=5, random_state=0)
    >>> model.fit(X[:60], y[:60]).predict(X[60:65]).shape
    (5,)
    """

    def __init__(
        self,
        module: Any = None,
        *,
        backbone: str = "cgcnn",
        backbone_options: Mapping[str, Any] | None = None,
        graph_settings: GraphSettings | None = None,
        unfrozen: Unfrozen = "last",
        head: Literal["new", "inherit"] = "new",
        head_widths: Sequence[int] = (32, 32),
        loss: Literal["mse", "l1"] = "mse",
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
        self.module = module
        self.backbone = backbone
        self.backbone_options = backbone_options
        self.graph_settings = graph_settings
        self.unfrozen = unfrozen
        self.head = head
        self.head_widths = head_widths
        self.loss = loss
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

    def _backbone(self) -> tuple[Backbone, PretrainedModule | None]:
        if self.module is not None:
            module = load_module(self.module)
            return module.build_backbone(), module
        options = copy.deepcopy(dict(self.backbone_options or {}))
        try:
            return make_backbone(self.backbone, options, graph_settings=self.graph_settings), None
        except TypeError as error:
            build = plugins.load("backbones", self.backbone)
            valid = [name for name in signature(build).parameters if name != "graph_settings"]
            raise InvalidParameterError(
                f"'backbone_options' must hold arguments of backbone {self.backbone!r}, of {valid}. "
                f"Got {options}: {error}."
            ) from error

    def _backbone_learning_rate(self) -> float:
        if self.backbone_learning_rate is not None:
            return self.backbone_learning_rate
        return self.learning_rate if self.module is None else TRANSFER_RATE
