"""Predict properties of crystals from few labels, by reusing pre-trained graph networks.

The public names are imported on first use, so ``import matmosaic`` itself loads neither torch nor
scikit-learn nor pymatgen.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from matmosaic._version import __version__

if TYPE_CHECKING:
    from matmosaic.datasets import read_structures
    from matmosaic.estimators import (
        ComposedRegressor,
        MoERegressor,
        MPTRegressor,
        ProbeRegressor,
        TransferRegressor,
    )
    from matmosaic.featurizers import Featurizer, ModuleFeaturizer, load_featurizer
    from matmosaic.graphs import GraphSettings, GraphTable
    from matmosaic.learning import DerivedFeature
    from matmosaic.modules import ModuleCard, PretrainedModule, list_modules, load_module
    from matmosaic.structures import as_structures, structure_hash, to_object_array

__all__ = [
    "ComposedRegressor",
    "DerivedFeature",
    "Featurizer",
    "GraphSettings",
    "GraphTable",
    "MPTRegressor",
    "MoERegressor",
    "ModuleCard",
    "ModuleFeaturizer",
    "PretrainedModule",
    "ProbeRegressor",
    "TransferRegressor",
    "__version__",
    "as_structures",
    "list_modules",
    "load_featurizer",
    "load_module",
    "read_structures",
    "structure_hash",
    "to_object_array",
]

_HOMES = {
    "ComposedRegressor": "estimators",
    "DerivedFeature": "learning",
    "Featurizer": "featurizers",
    "GraphSettings": "graphs",
    "GraphTable": "graphs",
    "MPTRegressor": "estimators",
    "MoERegressor": "estimators",
    "ModuleCard": "modules",
    "ModuleFeaturizer": "featurizers",
    "PretrainedModule": "modules",
    "ProbeRegressor": "estimators",
    "TransferRegressor": "estimators",
    "as_structures": "structures",
    "list_modules": "modules",
    "load_featurizer": "featurizers",
    "load_module": "modules",
    "read_structures": "datasets",
    "structure_hash": "structures",
    "to_object_array": "structures",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
