"""Publishing: nothing half visible, nothing lost between two who publish at once."""

import json
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from matmosaic_hub import HubStore, publishing
from matmosaic_hub.publishing import LOCK_OBJECT, read_index

from matmosaic.exceptions import StoreError
from matmosaic.modules import DirectoryStore

N_EACH = 8

# Waits until both processes are ready, then publishes, in each hub, modules that the other does not have.
# What stands for a module spares two imports of torch: `publish` asks it for nothing else.
PUSHER = """
import sys, time
from dataclasses import dataclass, replace
from pathlib import Path
from matmosaic.modules import DirectoryStore, ModuleCard
from matmosaic_hub import HubStore

own, other, source, count, *urls = sys.argv[1:]
card = DirectoryStore(source).card("tiny")
weights = Path(source, "tiny", "weights.safetensors").read_bytes()

@dataclass
class Module:
    card: ModuleCard

    def to_files(self):
        return {"card.json": self.card.to_json().encode(), "weights.safetensors": weights}

for number, url in enumerate(urls):
    store = HubStore(url)
    Path(source, f"{own}-{number}").touch()
    while not Path(source, f"{other}-{number}").exists():
        time.sleep(0.001)
    for i in range(int(count)):
        assert store.publish(Module(replace(card, name=f"{own}-{i}")))
"""


def test_two_processes_that_publish_at_once_lose_nothing(tmp_path, s3, module):
    DirectoryStore(tmp_path / "source").save(module)
    urls = [(tmp_path / "shared").as_uri(), s3]
    pushers = [
        subprocess.Popen(
            [sys.executable, "-c", PUSHER, own, other, tmp_path / "source", str(N_EACH), *urls],
            stderr=subprocess.PIPE,
        )
        for own, other in [("a", "b"), ("b", "a")]
    ]
    errors = [pusher.communicate(timeout=120)[1].decode() for pusher in pushers]
    assert [pusher.returncode for pusher in pushers] == [0, 0], errors
    expected = sorted(f"{own}-{i}" for own in "ab" for i in range(N_EACH))
    for url in urls:
        store = HubStore(url)
        assert store.names() == expected
        assert all(store.card(name).name == name for name in expected)


def publish_between(monkeypatch, publish):
    """Let somebody else publish after the index was read, before it is replaced; once."""
    original = publishing.read_index
    turns = iter([publish])

    def read_index(remote):
        found = original(remote)
        for turn in turns:
            turn()
        return found

    monkeypatch.setattr(publishing, "read_index", read_index)


@pytest.mark.parametrize("before", [["before"], []], ids=["later", "first"])
def test_index_that_changed_on_s3_is_read_again(s3, make, monkeypatch, before):
    other = HubStore(s3)
    for name in before:
        other.publish(make(name))
    publish_between(monkeypatch, lambda: other.publish(make("other")))
    store = HubStore(s3)
    assert store.publish(make("own"))
    assert store.names() == HubStore(s3).names() == [*before, "other", "own"]


def test_same_version_with_other_content_published_meanwhile_is_refused(s3, make, monkeypatch):
    publish_between(monkeypatch, lambda: HubStore(s3).publish(make()))
    with pytest.raises(StoreError, match="other content, and versions never change"):
        HubStore(s3).publish(make(seed=1))
    assert HubStore(s3).load("tiny") == make()


@pytest.mark.parametrize("failing", ["weights.safetensors", "card.json", "index.json"])
def test_a_module_is_visible_when_all_of_it_is_there(folder, make, monkeypatch, failing):
    store = HubStore(folder.as_uri())
    original = store._remote.write

    def write(relative, content, **conditions):
        if relative.endswith(failing):
            raise StoreError("the line is cut")
        original(relative, content, **conditions)

    monkeypatch.setattr(store._remote, "write", write)
    with pytest.raises(StoreError, match="the line is cut"):
        store.publish(make("next"))
    assert HubStore(store.url).names() == ["tiny"]
    monkeypatch.undo()
    assert HubStore(store.url).publish(make("next"))
    assert HubStore(store.url).load("next") == make("next")


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"half")], ids=["lost", "cut"])
def test_files_that_were_lost_are_pushed_again(folder, module, name, damage):
    (path,) = folder.rglob(name)
    before = (folder / "index.json").read_bytes()
    damage(path)
    assert HubStore(folder.as_uri()).publish(module) is True
    assert HubStore(folder.as_uri()).load("tiny") == module
    assert HubStore(folder.as_uri()).publish(module) is False
    assert (folder / "index.json").read_bytes() == before


def test_lost_object_is_pushed_again(s3, make):
    store = HubStore(s3)
    assert store.publish(make()) and not store.publish(make())
    store._remote.delete(store._find("tiny").path("weights.safetensors"))
    assert store.publish(make()) and not store.publish(make())
    assert HubStore(s3).load("tiny") == make()


def test_cached_index_does_not_stand_for_a_hub_that_is_gone(folder, module):
    store = HubStore(folder.as_uri())
    store.pull("tiny")
    folder.rename(folder.with_name("elsewhere"))
    assert HubStore(store.url).publish(module) is True
    assert (folder / "index.json").is_file()


def test_place_that_cannot_be_made_is_reported(tmp_path, module, monkeypatch):
    def refuse(*arguments, **options):
        raise FileNotFoundError("no such drive")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        StoreError, match=r"weights\.safetensors cannot be written \(FileNotFoundError: no such"
    ):
        HubStore((tmp_path / "hub").as_uri()).publish(module)


def test_no_temporary_file_stays(folder):
    assert {path.name for path in folder.iterdir()} == {"index.json", "modules", ".index.lock"}


def test_locked_folder_is_reported(folder, make, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(publishing, "TIMEOUT", 0.1)
    with (
        FileLock(folder / publishing.LOCK_FILE),
        pytest.raises(StoreError, match="is locked by another process"),
    ):
        HubStore(folder.as_uri()).publish(make("next"))


def test_web_servers_and_zip_files_are_read_only(mirror, make):
    with pytest.raises(StoreError, match=r"is read-only: nothing can be written by 'http'"):
        mirror.publish(make("next"))


def test_missing_bucket_is_not_made(s3, make):
    with pytest.raises(StoreError, match="The bucket of s3://elsewhere/hub is not there; make it first"):
        HubStore("s3://elsewhere/hub").publish(make())


def test_module_that_readers_would_refuse_is_not_published(folder, make, monkeypatch):
    from matmosaic_hub import index

    monkeypatch.setitem(index.LIMITS, "card.json", 100)
    with pytest.raises(StoreError, match=r"A card\.json of [\d,]+ bytes is not published"):
        HubStore(folder.as_uri()).publish(make("next"))


# --- the lock object, for storages that know nothing better ----------------------------------------------


@pytest.fixture
def remote(monkeypatch):
    """Files in memory, taken for those of a storage without conditions."""
    monkeypatch.setattr(publishing, "SETTLING", 0.0)
    return HubStore(f"memory://{secrets.token_hex(4)}")._remote


def test_lock_object_is_held_and_removed(remote):
    held = []

    def change(index):
        held.append(json.loads(remote.read(LOCK_OBJECT, limit=1000)))
        return index

    publishing._update_with_lock_object(remote, change)
    assert set(held[0]) == {"host", "process", "since", "token"}
    with pytest.raises(FileNotFoundError):
        remote.read(LOCK_OBJECT, limit=1000)


def test_lock_of_somebody_else_is_kept_and_named(remote, monkeypatch):
    monkeypatch.setattr(publishing, "TIMEOUT", 0.5)
    remote.write(LOCK_OBJECT, b'{"host": "elsewhere"}')
    with pytest.raises(
        StoreError, match=r'by {"host": "elsewhere"}; if that .* not running.*delete memory://'
    ):
        publishing._update_with_lock_object(remote, lambda index: index)
    assert remote.read(LOCK_OBJECT, limit=1000) == b'{"host": "elsewhere"}'


def test_lock_that_is_given_back_is_taken(remote):
    remote.write(LOCK_OBJECT, b"{}")
    timer = threading.Timer(0.3, lambda: remote.delete(LOCK_OBJECT))
    timer.start()
    start = time.monotonic()
    publishing._update_with_lock_object(remote, lambda index: index)
    assert time.monotonic() - start >= 0.2
    timer.join()


def test_index_that_somebody_replaced_in_spite_of_the_lock_is_noticed(remote, make):
    from matmosaic_hub.index import Entry, Index

    def with_module(name):
        module = make(name)
        return Index({}, source="x").with_entry(Entry.of(module, module.to_files()))

    original = remote.write

    def write(relative, content, **conditions):
        original(relative, content, **conditions)
        if relative == "index.json":
            original(relative, with_module("other").to_bytes())

    remote.write = write
    with pytest.raises(StoreError, match=r"was changed by another process.*one process at a time publish"):
        publishing._update_with_lock_object(remote, lambda index: with_module("own"))
    assert read_index(remote).names() == ["other"]


def test_source_is_not_needed(tmp_path):
    assert read_index(HubStore((Path(tmp_path) / "none").as_uri())._remote) is None
