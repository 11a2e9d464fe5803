"""Modules: pre-trained networks with cards, the stores that keep them, and references to them."""

from matmosaic.modules.card import ModuleCard
from matmosaic.modules.directory_store import DirectoryStore
from matmosaic.modules.fingerprints import TrainingFingerprints
from matmosaic.modules.module import PretrainedModule
from matmosaic.modules.names import check_module_name
from matmosaic.modules.references import list_modules, load_module, resolve
from matmosaic.modules.store import ModuleStore, StoreOpener, VersionedModuleStore, WritableModuleStore
from matmosaic.modules.summary import ModuleSummary

__all__ = [
    "DirectoryStore",
    "ModuleCard",
    "ModuleStore",
    "ModuleSummary",
    "PretrainedModule",
    "StoreOpener",
    "TrainingFingerprints",
    "VersionedModuleStore",
    "WritableModuleStore",
    "check_module_name",
    "list_modules",
    "load_module",
    "resolve",
]
