"""Hubs keep the contract of stores, wherever they are."""

import secrets
import shutil
import zipfile

import fsspec
import pytest
from matmosaic_hub import HubStore

from matmosaic.modules import VersionedModuleStore, WritableModuleStore
from matmosaic.modules.store import ModuleStore
from matmosaic.testing import check_store


class Reader:
    """What of a hub can be read, for the contract of stores that cannot be written."""

    contract = 1

    def __init__(self, store):
        self.names, self.card, self.load = store.names, store.card, store.load


def flip_last_bytes(store):
    """Return what alters the weights in all versions of a module, and empties the cache."""

    def corrupt(name):
        for path in store._remote.fs.find(store._remote.path(f"modules/{name}")):
            if path.endswith("weights.safetensors"):
                content = store._remote.fs.cat_file(path)
                store._remote.fs.pipe_file(path, content[:-1] + bytes([content[-1] ^ 1]))
        shutil.rmtree(store.cache.folder, ignore_errors=True)

    return corrupt


def test_folder(tmp_path, module):
    store = HubStore((tmp_path / "new").as_uri())
    check_store(store, module, corrupt=flip_last_bytes(store))
    assert isinstance(store, WritableModuleStore)
    assert isinstance(store, VersionedModuleStore)


def test_memory(module):
    store = HubStore(f"memory://{secrets.token_hex(4)}")
    check_store(store, module, corrupt=flip_last_bytes(store))


def test_s3(s3, module):
    store = HubStore(s3)
    check_store(store, module, corrupt=flip_last_bytes(store))


def test_web_server(mirror, web, module):
    check_store(Reader(mirror), module)
    assert isinstance(Reader(mirror), ModuleStore)


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_zip_file(folder, tmp_path, module):
    store = HubStore(zipped(folder, tmp_path / "hub.zip").as_uri())
    check_store(Reader(store), module)
    store._remote.fs.close()


def test_zip_file_on_a_web_server(folder, web, module):
    zipped(folder, folder.parent / "hub.zip").rename(folder / "hub.zip")
    pytest.importorskip("aiohttp", reason="needs matmosaic-hub[http]")
    store = HubStore(f"{web.url}/hub.zip")
    # Of a zip file the size is asked first; this server answers GET alone.
    store._remote._options["size_policy"] = "get"
    assert store.load("tiny") == module
    store._remote.fs.close()


class FakeRepository(fsspec.get_filesystem_class("memory")):
    """Stands for the file system of Hugging Face, which no test reaches."""

    protocol = "hf"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("hf://"))


@pytest.fixture
def hf(monkeypatch):
    from fsspec.registry import _registry
    from matmosaic_hub import publishing

    monkeypatch.setattr(publishing, "SETTLING", 0.0)
    monkeypatch.setitem(_registry, "hf", FakeRepository)
    yield "hf://owner/repository"
    FakeRepository.store.clear()


def test_fake_repository(hf, module):
    store = HubStore(hf)
    check_store(store, module, corrupt=flip_last_bytes(store))
    assert not store._remote.fs.exists(store._remote.path("index.lock"))
