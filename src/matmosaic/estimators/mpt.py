"""Learn several properties at once, and fine-tune on another one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from matmosaic.backbones.freezing import Unfrozen
from matmosaic.estimators._exclusion import excluded_hashes, excluded_rows
from matmosaic.estimators.base import Rows, Task
from matmosaic.estimators.persistence import DEFAULT_TARGET, SavedFiles
from matmosaic.estimators.transfer import TransferRegressor
from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError, suggest
from matmosaic.graphs import GraphSettings
from matmosaic.learning import ManyProperties, OneProperty, PropertyScales, check_sample_weight
from matmosaic.learning.multitask import is_table, label_errors
from matmosaic.learning.targets import check_length
from matmosaic.modules import PretrainedModule
from matmosaic.structures import Overlap

logger = logging.getLogger(__name__)


class MPTRegressor(TransferRegressor):
    """Pre-train one network on several properties, or fine-tune such a network on one.

    ``fit(X, Y)`` with a column of ``Y`` per property trains one backbone with a head for each, on all labels
    that are there: NaN is a missing one, and a DataFrame names the properties. The loss is the mean error
    over the labels, each scaled by the mean and standard deviation of its property. ``predict`` returns
    every property. What was learnt becomes a module by :meth:`to_module`.

    With ``module``, usually one that was trained so, ``fit(X, y)`` fine-tunes it on one property, as
    :class:`TransferRegressor` does, with the defaults of this class; ``fit(X, Y)`` on several.

    Parameters
    ----------
    module : str, path-like, PretrainedModule or None, default=None
        What to start from, as for :class:`TransferRegressor`. None trains from scratch, which needs a ``Y``.
    backbone : str, default="cgcnn"
        Network to train from scratch, a name in the plugin group ``matmosaic.backbones``.
    backbone_options : dict, optional
        Its constructor arguments, such as ``{"width": 32}``.
    graph_settings : GraphSettings, optional
        How structures become graphs when training from scratch.
    exclude : structures or sequence of str, optional
        Structures, or hashes as of :func:`matmosaic.structure_hash`, that are kept out of training and
        validation, such as those that a fine-tuned network will be tested on. Rows are left out by
        ``fit`` alone; ``predict`` predicts every row.
    exclude_by : {"structure", "crystal", "composition"}, default="structure"
        ``"structure"`` leaves out what agrees with ``exclude`` in every number. Data sets of different
        origin have the same crystals in other cells and with other digits: ``"crystal"`` finds them by
        pymatgen's ``StructureMatcher`` within equal reduced formulas, which is slower, and
        ``"composition"`` leaves out all that share a reduced formula. A saved estimator keeps the hashes
        of ``exclude``, which serve ``"structure"`` alone; with the other two it keeps none: give ``exclude``
        again after loading, before another fit.
    reduction : {"present", "reference"}, default="present"
        What the sum of errors in a batch is divided by: the number of labels that are there, or of all
        entries of the batch, missing ones as well, as published.
    sampling : {"proportional", "uniform"}, default="proportional"
        ``"proportional"`` sees each label once an epoch, so a property as often as it has labels.
        ``"uniform"`` draws a property, all with equal chances, and then a row that has it.
    unfrozen : str or sequence of str, default="all"
        What of a module is trained besides the heads, as for :class:`TransferRegressor`.
    head : {"new", "inherit"}, default="new"
        Whether heads are new or the module's own, by the names of the properties.
    head_widths : sequence of int, default=(128, 128)
        Hidden layers of each new head. The published heads have these widths, too, but SiLU where ours have
        softplus: one kind of head serves all estimators, and comparing them compares what they learnt.
    loss : {"mse", "l1"}, default="l1"
        Squared or absolute errors of the scaled labels.
    max_epochs : int, default=300
        Length of the schedule. 0 trains nothing.
    patience : int or None, default=None
        Epochs without a better validation error before training stops early; None never stops
        early. The best epoch is restored in any case.
    batch_size : int, default=250
        Structures per step.
    learning_rate : float, default=0.01
        Of the heads, and of everything from scratch.
    backbone_learning_rate : float or None, default=None
        Of the backbone; None means 0.005 for a module and ``learning_rate`` from scratch.
    validation_fraction : float, default=0.15
        Share of the labels of each property that is held out to choose the best epoch; 0 keeps the last.
    weighted_sampling : bool, default=False
        Draw training rows so that 30 bins of the labels of a property have equal chances.
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
    properties_ : list of str or None
        Names of the properties, ``"y0"``, ``"y1"``, ... if ``Y`` gave none; None after fine-tuning on one.
    overlap_ : Overlap or None
        Of the rows of ``X`` with ``exclude``: ``by_structure`` were left out, and the others in
        ``by_composition`` were kept though they share a reduced composition with them.
    history_ : pandas.DataFrame
        As for :class:`TransferRegressor`. Of several properties, ``valid_mae`` is the mean over all
        labels, scaled (dimensionless), which chooses the best epoch, and ``valid_mae NAME`` is in the
        unit of the property.
    scale_ : PropertyScales or TargetScale
        Mean and standard deviation of the training labels of each property.
    net_, best_epoch_, unfrozen_, module_card_, n_train_
        As for :class:`TransferRegressor`.

    References
    ----------
    Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> alloys = load_alloys("shear_modulus")
    >>> X, Y = alloys.data[:60], alloys.frame[["volume", "shear_modulus", "vacancy_energy"]][:60]
    >>> model = MPTRegressor(backbone_options={"width": 16}, max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X[:5]).shape
    (5, 3)
    """

    def __init__(
        self,
        module: Any = None,
        *,
        backbone: str = "cgcnn",
        backbone_options: Mapping[str, Any] | None = None,
        graph_settings: GraphSettings | None = None,
        exclude: Any = None,
        exclude_by: Literal["structure", "crystal", "composition"] = "structure",
        reduction: Literal["present", "reference"] = "present",
        sampling: Literal["proportional", "uniform"] = "proportional",
        unfrozen: Unfrozen = "all",
        head: Literal["new", "inherit"] = "new",
        head_widths: Sequence[int] = (128, 128),
        loss: Literal["mse", "l1"] = "l1",
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
        super().__init__(
            module,
            backbone=backbone,
            backbone_options=backbone_options,
            graph_settings=graph_settings,
            unfrozen=unfrozen,
            head=head,
            head_widths=head_widths,
            loss=loss,
            max_epochs=max_epochs,
            patience=patience,
            batch_size=batch_size,
            learning_rate=learning_rate,
            backbone_learning_rate=backbone_learning_rate,
            validation_fraction=validation_fraction,
            weighted_sampling=weighted_sampling,
            compress=compress,
            random_state=random_state,
            device=device,
            n_jobs=n_jobs,
            memory=memory,
            callbacks=callbacks,
            verbose=verbose,
        )
        self.exclude = exclude
        self.exclude_by = exclude_by
        self.reduction = reduction
        self.sampling = sampling

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that labels may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def properties_(self) -> list[str] | None:
        """Names of the properties that are predicted; None for a single one."""
        check_is_fitted(self, "net_")
        return None if self._task.names is None else list(self._task.names)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R2, the mean over the properties where there are several.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            As in :meth:`fit`.
        y : array-like of shape (n_structures,) or (n_structures, n_properties)
            Labels, as in :meth:`fit`.
        sample_weight : array-like of shape (n_structures,), optional
            Weights of the rows.

        Returns
        -------
        float
            At most 1. Properties with fewer than two labels do not count.
        """
        check_is_fitted(self, "net_")
        if isinstance(self._task, OneProperty):
            return super().score(X, y, sample_weight)
        return float(self.scores(X, y, sample_weight)["r2"].mean())

    def scores(self, X: Any, y: Any, sample_weight: Any = None) -> pd.DataFrame:
        """Return the errors of each property, over the labels that are there.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            As in :meth:`fit`.
        y : array-like of shape (n_structures, n_properties)
            Labels, NaN where missing. A DataFrame may have its columns in any order, and more of them.
        sample_weight : array-like of shape (n_structures,), optional
            Weights of the rows.

        Returns
        -------
        DataFrame
            A row per property: ``n_labels``, ``mae`` (its unit) and ``r2``, NaN for fewer than two labels.
        """
        check_is_fitted(self, "net_")
        if not isinstance(self._task, ManyProperties):
            raise InvalidTargetsError("'scores' is for several properties; after a fit of one use 'score'.")
        labels = self._task.values(y)
        predicted = np.asarray(self.predict(X))
        check_length(labels, len(predicted), "y")
        weight = check_sample_weight(sample_weight, len(labels))
        rows = [label_errors(*columns, weight) for columns in zip(labels.T, predicted.T, strict=True)]
        index = pd.Index(self._task.names, name="property")
        return pd.DataFrame(rows, index, ["n_labels", "mae", "r2"])

    def to_module(
        self,
        *,
        name: str,
        target: str | Sequence[str] | None = None,
        unit: str | Sequence[str] | Mapping[str, str],
        version: str = "1",
        dataset: Mapping[str, str | None] | None = None,
        license_weights: str | None = None,
        references: Sequence[str] = (),
        kind: Literal["full", "adapter"] | None = None,
    ) -> PretrainedModule:
        """Export what was learnt as a module, to share it or to fine-tune it.

        Parameters
        ----------
        name : str
            Name of the module and of its directory.
        target : str or sequence of str, optional
            What the properties are, in the order of the columns; the names of the labels by default.
        unit : str, sequence of str, or mapping of str to str
            Unit of each property: in the same order, or by the name of the label. One for all if it is a str.
        version : str, default="1"
            Version of the module.
        dataset : mapping, optional
            ``{"name": ..., "doi": ...}`` of the training data.
        license_weights : str, optional
            SPDX identifier of the licence that you give the weights.
        references : sequence of str, optional
            What to cite.
        kind : {"full", "adapter"}, optional
            The whole network or its adapters alone, as for :class:`TransferRegressor`.

        Returns
        -------
        PretrainedModule
            As of :class:`TransferRegressor`, with a head, a unit and a scale per property.

        Raises
        ------
        InvalidParameterError
            If there is not a name and a unit for each property.
        """
        return super().to_module(
            name=name,
            target=cast("Any", target),
            unit=cast("Any", unit),
            version=version,
            dataset=dataset,
            license_weights=license_weights,
            references=references,
            kind=kind,
        )

    def _predicted(self, target: Any, unit: Any) -> dict[str, Any]:
        if isinstance(self._task, OneProperty):
            return super()._predicted(target, unit)
        own = self._task.names
        targets = own if target in (None, DEFAULT_TARGET) else _each("target", target, own)
        units = [unit] * len(own) if isinstance(unit, str) else _each("unit", unit, own)
        scales = cast("PropertyScales", self.scale_).scales
        metrics = [
            self._metrics(f"MAE {name}", f"valid_mae {column}", text)
            for name, column, text in zip(targets, own, units, strict=True)
        ]
        return {
            "target": ", ".join(targets),
            "unit": ", ".join(units),
            "properties": [
                {"name": name, "unit": text, "target_transform": scale.to_card()}
                for name, text, scale in zip(targets, units, scales, strict=True)
            ],
            "metrics": [metric for records in metrics for metric in records],
        }

    def _task_of(self, y: Any) -> Task:
        if is_table(y):
            return ManyProperties.of(y, sampling=self.sampling)
        if self.module is None and np.ndim(y) == 1:
            raise InvalidTargetsError(
                "'y' is one-dimensional, and module=None names nothing to fine-tune on it. Give a column for "
                "each property, or a module; TransferRegressor learns one property from scratch."
            )
        return super()._task_of(y)

    def _read(
        self, X: Any, y: Any, weight: Any, *, name: str = "y", constant: bool = False
    ) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        rows, y, weight = super()._read(X, y, weight, name=name, constant=constant)
        found = None if self.exclude is None else excluded_rows(rows, self.exclude, self.exclude_by)
        if name == "y":
            self.overlap_ = found
        if found is None or not found.by_structure.any():
            return rows, y, weight
        kept = np.flatnonzero(~found.by_structure)
        if len(kept) == 0:
            given = "X" if name == "y" else "X_val"
            raise InvalidParameterError(
                f"'exclude' holds all structures of {given!r}; nothing is left to use."
            )
        logger.info("%d of %d rows are excluded", len(rows) - len(kept), len(rows))
        return [rows[row] for row in kept], y[kept], None if weight is None else weight[kept]

    def _loss(self) -> dict[str, Any]:
        return {"loss": self.loss, "reduction": self.reduction}

    def _to_dict(self) -> dict[str, Any]:
        document = super()._to_dict()
        if self.exclude is not None:
            # Hashes find equal structures alone: another fit that asks for more would refuse them.
            kept = excluded_hashes(self.exclude) if self.exclude_by == "structure" else None
            document["parameters"]["exclude"] = kept
        found = self.overlap_
        document["task"] = {"names": self._task.names, "as_frame": getattr(self._task, "as_frame", False)}
        document["overlap"] = found and [found.by_structure.tolist(), found.by_composition.tolist()]
        return document

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        task, found = document["task"], document["overlap"]
        if task["names"] is not None:
            self._task = ManyProperties(tuple(task["names"]), task["as_frame"], self.sampling)
        self.overlap_ = found and Overlap(*(np.array(mask, dtype=bool) for mask in found))
        if found and self.exclude is None:
            logger.warning("%s: 'exclude' was not saved; give it again before another fit", source)
        super()._restore(document, contents, source)


def _each(parameter: str, given: Any, names: Sequence[str]) -> Sequence[str]:
    """Return a text for each property, from a sequence or by name."""
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise InvalidParameterError(f"{parameter!r}: {suggest(str(name), names, what='property')}")
        given = [given[name] for name in names if name in given]
    texts = [given] if isinstance(given, str) else list(given)
    if len(texts) != len(names):
        raise InvalidParameterError(
            f"{parameter!r} must hold one for each of the {len(names)} properties {list(names)}. Got {texts}."
        )
    return texts
