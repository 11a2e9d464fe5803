"""A tabular regressor on frozen features: no network is trained, so a fit takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from matmosaic.estimators._checks import check_parameters
from matmosaic.estimators._environment import device_memory, resolve_device
from matmosaic.estimators._experts import resolve_experts
from matmosaic.estimators._probe_checks import check_enough, offers_std, weights_of_fit
from matmosaic.estimators._probe_columns import Block, FrozenColumns, resolve_quantities
from matmosaic.estimators._probe_files import SavedProbe, probe_files
from matmosaic.estimators._rows import OnError, predict_rows, read_rows
from matmosaic.estimators.persistence import Savable, SavedFiles
from matmosaic.exceptions import InvalidParameterError, suggest
from matmosaic.featurizers import Featurizer
from matmosaic.learning.derived import DerivedFeature
from matmosaic.learning.preparation import prepare
from matmosaic.learning.process import SourceProcess
from matmosaic.learning.regressors import make_regressor
from matmosaic.learning.targets import check_sample_weight, check_targets
from matmosaic.modules import PretrainedModule

__all__ = ["ProbeRegressor"]

Array = NDArray[np.float64]

REDUCTIONS = ("relevance", "pca")
# Principal components, or selected columns, where the user does not say how many.
N_FEATURES = 100
# Rows that are enough to tell which sources matter.
MAX_IMPORTANCE_ROWS = 300


class ProbeRegressor(RegressorMixin, Savable):
    """Fit a scikit-learn regressor to frozen features of modules and featurizers: the first thing to try.

    Side by side go the features E(x) of modules, the columns of featurizers, what the modules' own heads
    predict, and formulas of such predictions. They are standardised on the training rows, with gaps filled,
    constant columns left out and all sources given equal weight; then a regressor is fitted. No network is
    trained, and what networks gave for a structure is kept, so that cross-validation and searches run them
    once.

    Parameters
    ----------
    sources : str, path-like, PretrainedModule, Featurizer, DerivedFeature or sequence, default="bundled:*"
        What is read of structures: references to modules, such as ``"chgnet:0.3.0"`` or a glob, references to
        featurizers, such as ``"featurizer:matminer-fast"``, or such objects. A featurizer that has a method
        ``get_feature_groups_out``, with a label for each column, counts as a source for each label. A
        :class:`DerivedFeature` may stand here as well as in ``derived``.
    estimator : str, scikit-learn regressor or None, default=None
        None is the mean of a Gaussian process and of support vector regression, on a kernel that gives each
        source the weight that makes the labels most likely; labels or their logarithm are learnt, whichever
        is better for rows that are left out. ``"gaussian_process"`` is that process alone. ``"svr"`` and
        ``"kernel_ridge"`` take all sources alike, and find everything by inner cross-validation. ``"ridge"``
        and ``"trees"`` are linear and extremely randomised trees. Or a regressor or pipeline of your own.
    features : bool, default=True
        Whether modules give their features.
    predictions : bool, default=True
        Whether modules give what their heads predict, in the units of their cards. Those without a head have
        none to give.
    derived : DerivedFeature or sequence of DerivedFeature, default=()
        Formulas of predictions of modules, which need not be among ``sources``.
    reduction : {"relevance", "pca"} or None, default=None
        Select columns that say much about the labels and little that others say, as MODNet does, or project
        on principal components. Both are learnt in ``fit``.
    n_features : int or None, default=None
        How many columns or components that leaves; None for 100. All are kept where there are fewer.
    batch_size : int, default=256
        Structures per forward pass.
    random_state : int, RandomState or None, default=None
        Of the folds of the inner cross-validation, and of regressors that are named.
    device : str, default="auto"
        Where modules run: ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    n_jobs : int or None, default=None
        Processes that build graphs. A featurizer has its own.
    memory : None, str, path-like or joblib.Memory, default=None
        Folder where graphs and features of modules are kept for other processes and later runs.

    Attributes
    ----------
    estimator_ : scikit-learn regressor
        Fitted to prepared columns.
    best_params_ : dict
        What its inner cross-validation chose; empty if it has none.
    feature_names_ : ndarray of str, shape (n_columns,)
        All columns, with units.
    selected_features_ : ndarray of str, shape (n_selected,)
        Those that the regressor gets, or their principal components.
    sources_ : list of str
        Where the columns come from.
    module_cards_ : list of ModuleCard
        Of all modules that are run.
    n_train_ : int
        Number of training rows, without those of weight 0.

    See Also
    --------
    matmosaic.TransferRegressor : Fine-tune a module.
    matmosaic.MoERegressor : Fine-tune a mixture of several.

    Notes
    -----
    Everything that looks at labels, or at how structures are distributed, is learnt in ``fit`` from its rows.

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> probe = ProbeRegressor("bundled:emt-*", random_state=0).fit(X[:60], y[:60])
    >>> probe.predict(X[60:63]).shape
    (3,)
    """

    _fitted_by = "estimator_"

    def __init__(
        self,
        sources: Any = "bundled:*",
        *,
        estimator: Any = None,
        features: bool = True,
        predictions: bool = True,
        derived: DerivedFeature | Sequence[DerivedFeature] = (),
        reduction: Literal["relevance", "pca"] | None = None,
        n_features: int | None = None,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        n_jobs: int | None = None,
        memory: Any = None,
    ) -> None:
        self.sources = sources
        self.estimator = estimator
        self.features = features
        self.predictions = predictions
        self.derived = derived
        self.reduction = reduction
        self.n_features = n_features
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.memory = memory

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ProbeRegressor:
        """Learn a property of structures.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            Anything that :func:`~matmosaic.as_structures` takes. A table, if all sources are modules of its
            graph settings.
        y : array-like of shape (n_structures,)
            Labels, in any unit; predictions are in the same.
        sample_weight : array-like of shape (n_structures,), optional
            Weights of the rows, if the regressor, or the last step of a pipeline, takes them; a weight of 0
            leaves its row out.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        InvalidStructuresError, InvalidTargetsError, InvalidParameterError
            If structures, labels or parameters cannot be used; the message names rows.
        """
        self._check_parameters()
        rng = check_random_state(self.random_state)
        regressor = make_regressor(self.estimator, int(rng.randint(np.iinfo(np.int32).max)))
        rows = read_rows(X)
        y = check_targets(y, len(rows))
        weight = check_sample_weight(sample_weight, len(rows))
        weights_of_fit(regressor, weight)  # says at once if there is no use for them
        used = np.arange(len(y)) if weight is None else np.flatnonzero(weight)
        check_enough(len(used), len(y))
        check_targets(y[used], len(used))  # not constant over these
        self._frozen = self._resolve()
        blocks = self._blocks(rows)
        columns = np.concatenate([block.values for block in blocks], axis=1)[used]
        self._describe(blocks)
        self._learn(regressor, columns, y[used], None if weight is None else weight[used], rng)
        return self

    def _check_parameters(self) -> None:
        # In another estimator, 'reduction' means something else.
        check_parameters(self.get_params(deep=False), skip=["reduction"])
        reduction = self.reduction
        if reduction not in (None, *REDUCTIONS):
            raise InvalidParameterError(suggest(str(reduction), REDUCTIONS, what="value of 'reduction'"))
        if reduction is None and self.n_features is not None:
            raise InvalidParameterError(
                f"'n_features' is for reduction='relevance' or 'pca'. Got {self.n_features} with "
                "reduction=None; leave it out, or say how to reduce."
            )

    def _resolve(self) -> FrozenColumns:
        """Load what is named, and say what of it gives columns."""
        given, derived = _as_list(self.sources), _as_list(self.derived)
        for one in derived:
            if not isinstance(one, DerivedFeature):
                raise InvalidParameterError(f"'derived' must hold DerivedFeature objects. Got {one!r}.")
        formulas = [one for one in given if isinstance(one, DerivedFeature)] + derived
        others = [one for one in given if not isinstance(one, DerivedFeature)]
        kinds = "a reference such as 'bundled:*', a module, a featurizer, a DerivedFeature"
        named = {"parameter": "sources", "kinds": kinds}
        sources = resolve_experts(others, **named) if others or not formulas else []
        frozen = FrozenColumns(sources, resolve_quantities(formulas), self.features, self.predictions)
        frozen.check_names()
        return frozen

    def _blocks(self, X: Any) -> list[Block]:
        options = {name: getattr(self, name) for name in ("batch_size", "n_jobs", "memory")}
        with device_memory(self.batch_size):
            return self._frozen.blocks(X, device=resolve_device(self.device), **options)

    def _describe(self, blocks: Sequence[Block]) -> None:
        """Keep the names of columns and sources."""
        self.sources_ = [block.source for block in blocks]
        self.feature_names_ = np.array([name for block in blocks for name in block.names], dtype=object)
        self.module_cards_ = [module.card for module in self._frozen.modules]
        self._owners = np.repeat(np.arange(len(blocks)), [len(block.names) for block in blocks])

    def _learn(
        self, regressor: Any, columns: Array, y: Array, weight: Array | None, rng: np.random.RandomState
    ) -> None:
        """Fit to the columns of training rows."""
        how: dict[str, Any] = {"reduction": self.reduction, "n_features": self.n_features or N_FEATURES}
        how |= {"rng": rng, "names": self.feature_names_.tolist()}
        preparation = prepare(columns, self._owners.tolist(), y, weight, **how)
        self._preparation = preparation
        if isinstance(regressor, SourceProcess):
            regressor.set_params(sources=preparation.groups(self._owners).tolist())
        self.estimator_ = regressor.fit(preparation(columns), y, **weights_of_fit(regressor, weight))
        self.n_train_ = len(y)
        self._importances = self._permuted(columns, y, rng)

    def _permuted(self, columns: Array, y: Array, rng: np.random.RandomState) -> Array:
        """Return how much the error of training rows grows when the columns of a source are shuffled."""
        rows = rng.permutation(len(y))[:MAX_IMPORTANCE_ROWS]
        columns, y = columns[rows], y[rows]
        before = np.abs(self._regress(columns) - y).mean()
        grown = []
        for number in range(len(self.sources_)):
            shuffled, own = columns.copy(), self._owners == number
            shuffled[:, own] = columns[rng.permutation(len(y))][:, own]
            grown.append(np.abs(self._regress(shuffled) - y).mean() - before)
        return np.array(grown)

    @property
    def best_params_(self) -> dict[str, Any]:
        """What the inner cross-validation of the regressor chose."""
        check_is_fitted(self, self._fitted_by)
        if hasattr(self.estimator_, "best_params_"):
            return dict(self.estimator_.best_params_)
        return {"alpha": float(self.estimator_.alpha_)} if hasattr(self.estimator_, "alpha_") else {}

    @property
    def selected_features_(self) -> NDArray[np.object_]:
        """Names of the columns that the regressor gets, or their principal components."""
        check_is_fitted(self, self._fitted_by)
        return self.feature_names_[self._preparation.kept]

    def predict(self, X: Any, *, on_error: OnError = "raise", return_std: bool = False) -> Any:
        """Predict the property of structures.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            As in :meth:`fit`.
        on_error : {"raise", "nan"}, default="raise"
            What becomes of rows that cannot be used (disordered, unreadable, with elements that a module
            does not know): an error that names them, or NaN in their places and a warning. Molecules among
            crystals are always an error.
        return_std : bool, default=False
            Return standard deviations, too, if the regressor offers them, as the default does.

        Returns
        -------
        ndarray of float64, shape (n_structures,)
            In the unit of the labels; with ``return_std`` two of these.

        Raises
        ------
        InvalidParameterError
            If the regressor offers no standard deviations.
        """
        check_is_fitted(self, self._fitted_by)
        if return_std and not offers_std(self.estimator_):
            raise InvalidParameterError(
                "'return_std' needs a regressor that offers standard deviations, such as estimator=None or "
                f"'gaussian_process'. Got {type(self.estimator_).__name__}."
            )
        predicted = predict_rows(
            X,
            partial(self._predict, return_std=return_std),
            on_error=on_error,
            elements=self._frozen.elements,
            shape=(2,) if return_std else (),
        )
        return (predicted[:, 0], predicted[:, 1]) if return_std else predicted

    def _predict(self, X: Any, *, return_std: bool) -> Array:
        columns = np.concatenate([block.values for block in self._blocks(read_rows(X))], axis=1)
        if return_std:
            mean_and_std = self.estimator_.predict(self._preparation(columns), return_std=True)
            return np.stack(mean_and_std, axis=1).astype(float)
        return self._regress(columns)

    def _regress(self, columns: Array) -> Array:
        predicted = np.asarray(self.estimator_.predict(self._preparation(columns)), dtype=float)
        return predicted.reshape(len(columns))

    def explain(self) -> pd.DataFrame:
        """Return what each source gave, and how much the regressor relies on it.

        Returns
        -------
        DataFrame, a row per source, the most important first
            ``n_columns``; ``n_selected``, those that the regressor gets; ``importance``, by how much the
            mean absolute error of the training rows grows when the source's columns are shuffled among
            these, in the unit of the labels. Sources that tell the same share it. Of modules also
            ``target``, ``unit`` and ``license_weights``.
        """
        check_is_fitted(self, self._fitted_by)
        selected = self._owners[self._preparation.kept]
        counts = [np.bincount(owners, minlength=len(self.sources_)) for owners in (self._owners, selected)]
        learnt = {"n_columns": counts[0], "n_selected": counts[1], "importance": self._importances}
        table = pd.DataFrame(learnt, index=pd.Index(self.sources_, name="source"))
        cards = self._frozen.cards()
        for name in ("target", "unit", "license_weights"):
            table[name] = [getattr(cards.get(source), name, None) for source in self.sources_]
        return table.sort_values("importance", ascending=False, kind="stable")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that ``X`` is no numeric array."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def _to_files(self, *, target: Any, unit: Any) -> dict[str, bytes]:
        return probe_files(
            self._frozen,
            _as_list(self.sources),
            self.estimator_,
            self._preparation,
            target=str(target),
            unit=str(unit),
            n_train=self.n_train_,
            source_names=self.sources_,
            feature_names=self.feature_names_.tolist(),
            owners=self._owners.tolist(),
            importances=self._importances.tolist(),
        )

    def _restore(self, document: dict[str, Any], contents: SavedFiles, source: Path) -> None:
        saved = SavedProbe.read(contents)
        self._frozen = saved.frozen(features=self.features, predictions=self.predictions)
        self._preparation, self.estimator_ = saved.preparation(), saved.regressor()
        card = saved.card
        self.n_train_, self.sources_ = card["n_train"], card["source_names"]
        self.feature_names_ = np.array(card["feature_names"], dtype=object)
        self._owners, self._importances = np.array(card["owners"]), np.array(card["importances"])
        self.module_cards_ = [module.card for module in self._frozen.modules]


def _as_list(given: Any) -> list[Any]:
    single = isinstance(given, str | PathLike | PretrainedModule | Featurizer | DerivedFeature)
    return [given] if single or not isinstance(given, Sequence | np.ndarray) else list(given)
