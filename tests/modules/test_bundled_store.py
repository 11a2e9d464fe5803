"""The store that ships in the package."""

from matmosaic import plugins
from matmosaic.modules import ModuleStore, WritableModuleStore
from matmosaic.modules.bundled_store import BundledStore
from matmosaic.testing import check_store


def test_is_found_and_read_only():
    store = plugins.load("stores", "bundled")()
    assert isinstance(store, BundledStore)
    assert isinstance(store, ModuleStore)
    assert not isinstance(store, WritableModuleStore)
    assert repr(store) == "BundledStore()"


def test_keeps_the_contract_for_every_bundled_module():
    store = BundledStore()
    for name in store.names():
        check_store(store, store.load(name))
