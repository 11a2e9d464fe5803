"""The contract of featurizers: the file to read before writing one."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from matmosaic.exceptions import InvalidFeaturesError, StructureTypeError
from matmosaic.featurizers.computing import features_of
from matmosaic.featurizers.identity import describe_code, describe_parameter
from matmosaic.featurizers.reporting import report
from matmosaic.structures import as_structures

# They say where and how features are computed, not which.
NOT_IN_IDENTITY = frozenset({"batch_size", "device", "memory", "n_jobs", "verbose"})


class Featurizer(TransformerMixin, BaseEstimator, ABC):
    """Describe each structure by numbers, without learning from data.

    Authors write :meth:`featurize` and :meth:`get_feature_names_out`, and a constructor that only assigns its
    parameters. The rest makes the result a scikit-learn transformer, so that
    ``make_pipeline(featurizer, SimpleImputer(), SVR())`` works:

    - features are kept by what the structure is and :meth:`identity`, so cross-validation computes them once;
      with a parameter ``memory`` (None, a folder or a ``joblib.Memory``) also in that folder
    - with a parameter ``n_jobs`` rows are computed in several processes, where that is worth starting them;
      inside of another parallel job, such as a search with ``n_jobs=2``, in one
    - a row whose :meth:`featurize` raises is NaN, and one warning tells which rows and why
    - an interrupted :meth:`transform` keeps what was computed before

    :func:`matmosaic.testing.check_featurizer` checks what was written.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> class Density(Featurizer):
    ...     def featurize(self, structure):
    ...         return [structure.density, structure.volume / len(structure)]
    ...
    ...     def get_feature_names_out(self, input_features=None):
    ...         return np.array(["density (g/cm^3)", "volume (angstrom^3/atom)"], dtype=object)
    >>> cscl = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> Density().transform([cscl]).round(2)
    array([[ 4. , 34.97]])
    """

    contract: ClassVar[int] = 1
    """Version of this contract that the class was written against."""
    version: ClassVar[str] = "1"
    """Changed by the author whenever the features of a structure change: part of what they are kept by."""

    @abstractmethod
    def featurize(self, structure: Any) -> np.ndarray:
        """Return the features of one structure.

        Parameters
        ----------
        structure : pymatgen Structure or Molecule
            Ordered. It must not be changed, and nothing but it may count: not the order of its atoms, its
            position in space or other structures.

        Returns
        -------
        ndarray of shape (n_features,)
            In the order and units of the names; NaN where undefined, for a reason that
            :func:`matmosaic.featurizers.explain_gap` takes. It may raise instead: then all are NaN.
        """

    @abstractmethod
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : object, default=None
            Ignored; scikit-learn's pipelines pass it.

        Returns
        -------
        ndarray of str objects, shape (n_features,)
            Unlike each other and with units, such as ``"density (g/cm^3)"``.
        """

    def fit(self, X: Any, y: Any = None) -> Featurizer:
        """Do nothing: a featurizer learns nothing from data."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of structures.

        Parameters
        ----------
        X : structures, length n_structures
            Anything that :func:`~matmosaic.as_structures` takes.

        Returns
        -------
        ndarray of float64, shape (n_structures, n_features)
            In the units of the names; NaN where undefined.

        Raises
        ------
        StructureTypeError
            If ``X`` holds no structures, such as a `GraphTable`.
        InvalidFeaturesError
            If :meth:`featurize` returns anything but one finite number or NaN for each name.
        InvalidParameterError
            If ``n_jobs`` or ``memory`` cannot be used.
        PluginError
            If a package is missing that :meth:`featurize` imports.
        WorkerError
            If a process that was started for ``n_jobs`` has died.

        Warns
        -----
        UndefinedFeaturesWarning
            Tells which rows and features are NaN, and in how many rows for which reason; the log (level INFO)
            has the rows of every reason.
        """
        _refuse_tables(self, X)
        structures, names = as_structures(X), _feature_names(self)
        code = describe_code(type(self), below=Featurizer)
        found = features_of(self, structures, names, key=f"{self.identity()} {code}")
        report(type(self).__name__, structures, found, names)
        return np.stack([one.values for one in found])

    def identity(self) -> str:
        """Return a text that two featurizers share if they give every structure the same features.

        Returns
        -------
        str
            Class, version and parameters, but for ``n_jobs``, ``memory``, ``batch_size``, ``device`` and
            ``verbose``; the same in every process. Features and saved estimators are kept with it.

        Raises
        ------
        InvalidParameterError
            If a parameter has no lasting name or content, such as a lambda.
        """
        parameters = ", ".join(
            f"{name}={describe_parameter(value)}"
            for name, value in sorted(self.get_params(deep=False).items())
            if name not in NOT_IN_IDENTITY
        )
        cls = type(self)
        return f"{cls.__module__}.{cls.__qualname__}({parameters}) version {self.version}"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that ``X`` is no numeric array and that nothing is fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        tags.requires_fit = False
        return tags


# --- what transform looks at; functions, since authors may use any name inside of their class -----------


def _refuse_tables(featurizer: Featurizer, X: Any) -> None:
    table = sys.modules.get("matmosaic.graphs.table")  # needs torch: not imported for this alone
    if table and isinstance(X, table.GraphTable):
        raise StructureTypeError(
            f"X is a GraphTable, of which structures cannot be recovered; {type(featurizer).__name__} needs "
            "them. Pass the structures."
        )


def _feature_names(featurizer: Featurizer) -> np.ndarray:
    names = np.asarray(featurizer.get_feature_names_out(), dtype=object)
    if names.ndim != 1 or not len(names):
        raise InvalidFeaturesError(
            f"{type(featurizer).__name__}.get_feature_names_out must return names, shape (n_features,). Got "
            f"shape {names.shape}."
        )
    return names
