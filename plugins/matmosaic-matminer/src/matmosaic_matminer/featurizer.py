"""Descriptors of matminer as a featurizer of matmosaic."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np

from matmosaic.exceptions import UnknownNameError, suggest
from matmosaic.featurizers import Featurizer
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.presets import PRESETS, Preset


class MatminerFeaturizer(Featurizer):
    """Hand-crafted descriptors of composition and structure, in presets.

    Descriptors of sites are computed for one of each set of symmetry-equivalent sites.

    Parameters
    ----------
    preset : str, default="fast"
        ``"composition"``: statistics of elemental properties and other descriptors of the composition;
        ``"structure"``: density, symmetry, order, and statistics of descriptors of sites; ``"fast"``: both;
        ``"full"``: the slow ones and those that many compounds lack as well; or one of their groups, as
        `get_feature_groups_out` names them.
    n_jobs : int or None, default=None
        Processes, as in joblib.
    memory : None, str, path-like or joblib.Memory, default=None
        Folder where features are kept for other processes and later runs.

    Notes
    -----
    Features are NaN where they are not defined: those of an element without data, those of structure for
    molecules, those of a descriptor that fails; the log (level INFO) says why. Put a
    `SimpleImputer` behind.

    None of the features depends on the cell chosen, the order of the atoms or the orientation.

    References
    ----------
    Ward et al., Comput. Mater. Sci. 152, 60 (2018), DOI 10.1016/j.commatsci.2018.05.018

    Examples
    --------
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> MatminerFeaturizer("composition").transform(X[:3]).shape
    (3, 154)
    """

    contract: ClassVar[int] = 1

    def __init__(self, preset: str = "fast", *, n_jobs: int | None = None, memory: Any = None) -> None:
        self.preset = preset
        self.n_jobs = n_jobs
        self.memory = memory

    def featurize(self, structure: Any) -> np.ndarray:
        """Return the features of one structure.

        Parameters
        ----------
        structure : pymatgen Structure or Molecule
            Ordered.

        Returns
        -------
        ndarray of shape (n_features,)
            In the units of the names; NaN where undefined.

        Raises
        ------
        UnknownNameError
            If there is no such preset.
        """
        descriptors = self._preset().descriptors
        crystal = Crystal(structure)
        with warnings.catch_warnings():  # of elements without data, which become NaN
            warnings.simplefilter("ignore")
            return np.concatenate([one.values(crystal) for one in descriptors])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features, with units, shape (n_features,).

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        ndarray of str objects

        Raises
        ------
        UnknownNameError
            If there is no such preset.
        """
        return self._preset().names

    def get_feature_groups_out(self) -> np.ndarray:
        """Return the kind of each feature, such as ``"symmetry"``, for learners that weigh kinds.

        Returns
        -------
        ndarray of str objects, shape (n_features,)

        Raises
        ------
        UnknownNameError
            If there is no such preset.
        """
        return self._preset().group_names

    def identity(self) -> str:
        """Return a text that changes with the preset and its version."""
        return f"{super().identity()} preset version {self._preset().version}"

    def _preset(self) -> Preset:
        if self.preset not in PRESETS:
            raise UnknownNameError(suggest(str(self.preset), PRESETS, what="preset"))
        return PRESETS[self.preset]
