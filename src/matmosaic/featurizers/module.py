"""The features of a pre-trained module as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from matmosaic.exceptions import InvalidStructuresError
from matmosaic.featurizers.base import Featurizer
from matmosaic.featurizers.cache import Features, digest, open_cache
from matmosaic.structures import as_structures, structure_hash


class ModuleFeaturizer(Featurizer):
    """Frozen features E(x) of a pre-trained module, for any scikit-learn model.

    Parameters
    ----------
    module : str, path-like or PretrainedModule
        A reference such as ``"bundled:emt-eform"``, the directory of a module, or a module.
    batch_size : int, default=256
        Structures per forward pass.
    n_jobs : int or None, default=None
        Processes that build graphs.
    memory : None, str, path-like or joblib.Memory, default=None
        Folder where graphs and features are kept for other processes and later runs; this process keeps
        them in any case.
    device : str, default="cpu"
        Where the network runs, a device of torch.

    Examples
    --------
    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from matmosaic.datasets import load_alloys
    >>> X, y = load_alloys(target="shear_modulus", return_X_y=True)
    >>> model = make_pipeline(ModuleFeaturizer("bundled:emt-eform"), StandardScaler(), RidgeCV())
    >>> model.fit(X[:100], y[:100]).predict(X[100:103]).shape
    (3,)
    """

    contract: ClassVar[int] = 1

    def __init__(
        self,
        module: Any,
        *,
        batch_size: int = 256,
        n_jobs: int | None = None,
        memory: Any = None,
        device: str = "cpu",
    ) -> None:
        self.module = module
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.memory = memory
        self.device = device

    def featurize(self, structure: Any) -> np.ndarray:
        """Return the features of one structure, shape (n_features,)."""
        return self._features([structure])[0]

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of structures.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            Anything that :func:`~matmosaic.as_structures` takes.

        Returns
        -------
        ndarray of shape (n_structures, n_features)
            Dimensionless; as the module's own head would get them.
        """
        return self._features(X)

    def identity(self) -> str:
        """Return class and checksum of the module: a reference may stand for another one some day.

        Returns
        -------
        str
            As of :meth:`Featurizer.identity`.
        """
        from matmosaic.modules import load_module

        cls, card = type(self), load_module(self.module).card
        return f"{cls.__module__}.{cls.__qualname__}({card.name}, {card.sha256}) version {self.version}"

    def _features(self, X: Any) -> np.ndarray:
        """Return the features as an array, also where ``set_output`` wraps those of ``transform``."""
        from matmosaic.graphs import GraphTable

        if isinstance(X, GraphTable):
            return self._computed(X)
        structures = as_structures(X)
        suffix = self._suffix()
        keys = [structure_hash(structure) + suffix for structure in structures]
        cache = open_cache(self.memory)
        found = cache.get(dict.fromkeys(keys))
        rows = sorted({key: row for row, key in enumerate(keys) if key not in found}.values())
        if rows:
            values = self._computed_rows(structures, rows)
            new = {keys[row]: Features(one) for row, one in zip(rows, values, strict=True)}
            cache.put(new)
            found |= new
        return np.stack([found[key].values for key in keys])

    def _suffix(self) -> str:
        """Return what features depend on beside the structure, as the end of their keys."""
        import torch

        return "-" + digest(f"{self.identity()} {torch.get_default_dtype()}")

    def _computed_rows(self, structures: list[Any], rows: list[int]) -> np.ndarray:
        try:
            return self._computed([structures[row] for row in rows])
        except InvalidStructuresError:
            self._computed(structures)  # raises, too, and names the rows as the user counts them
            raise

    def _computed(self, X: Any) -> np.ndarray:
        from matmosaic.backbones import structure_features
        from matmosaic.modules import load_module

        backbone = load_module(self.module).build_backbone().to(self.device)
        features = structure_features(
            backbone, X, batch_size=self.batch_size, n_jobs=self.n_jobs, memory=self.memory
        )
        return features.cpu().numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names such as ``emt-eform_0``, shape (n_features,)."""
        from matmosaic.modules import load_module

        module = load_module(self.module)
        return np.array(
            [f"{module.card.name}_{number}" for number in range(module.build_backbone().n_features)],
            dtype=object,
        )
