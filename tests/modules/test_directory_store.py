"""A directory of modules: nobody sees half a module, whatever happens to its writer."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from matmosaic.exceptions import (
    CorruptModuleError,
    InvalidParameterError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules import DirectoryStore, ModuleStore, PretrainedModule, WritableModuleStore, _files
from matmosaic.testing import check_store


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def newer(module):
    """The same module in another version."""
    return PretrainedModule(replace(module.card, version="2"), module.weights)


def visible(store):
    return sorted(path.name for path in store.path.iterdir() if not path.name.startswith("."))


def leftovers(store):
    return [path.name for path in store.path.iterdir() if path.name.startswith(".matmosaic-")]


def alter_weights(store, name):
    path = store.path / name / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_keeps_the_contract(store, module):
    check_store(store, module, corrupt=lambda name: alter_weights(store, name))
    assert isinstance(store, ModuleStore)
    assert isinstance(store, WritableModuleStore)


def test_constructor_does_nothing(tmp_path):
    assert repr(DirectoryStore(tmp_path / "store")).endswith("store')")
    assert not (tmp_path / "store").exists()


def test_unreachable_store_is_an_error(store):
    with pytest.raises(StoreError, match="cannot be read"):
        store.names()


def test_names_and_cards_read_no_weights(store, module, make):
    store.save(module)
    store.save(make("another"))
    for name in ("tiny", "another"):
        (store.path / name / "weights.safetensors").unlink()
    assert store.names() == ["another", "tiny"]
    assert store.card("tiny") == module.card


def test_foreign_entries_are_no_modules(store, module):
    store.save(module)
    (store.path / "notes").mkdir()
    (store.path / "readme.txt").touch()
    assert store.names() == ["tiny"]


def test_unknown_name_gets_a_suggestion(store, module):
    store.save(module)
    for method in (store.card, store.load):
        with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
            method("tny")


@pytest.mark.parametrize("name", ["../tiny", "/etc/passwd", "a/../../b", ".."])
def test_path_traversal_is_refused(store, module, name):
    store.save(module)
    with pytest.raises(InvalidParameterError, match="cannot name a module"):
        store.load(name)


def test_directory_of_another_name_is_refused(store, module):
    store.save(module)
    (store.path / "tiny").rename(store.path / "renamed")
    with pytest.raises(ModuleFormatError, match="holds the module 'tiny'"):
        store.card("renamed")
    assert PretrainedModule.load(store.path / "renamed") == module


def test_names_that_differ_in_case_alone_are_refused(store, module, make):
    store.save(module)
    with pytest.raises(StoreError, match="only in case"):
        store.save(make("TINY"))


def test_altered_weights_are_refused(store, module):
    store.save(module)
    alter_weights(store, "tiny")
    with pytest.raises(CorruptModuleError):
        store.load("tiny")


# --- failures while saving -------------------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True], ids=["first save", "overwrite"])
def test_full_disk_leaves_the_store_as_it_was(store, module, newer, monkeypatch, replaced):
    store.path.mkdir()
    if replaced:
        store.save(module)

    def write(path, content):
        if path.suffix == ".safetensors":
            path.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(_files, "_write", write)
    with pytest.raises(StoreError, match="No space left on device.*Check free space"):
        store.save(newer, overwrite=True)
    assert visible(store) == (["tiny"] if replaced else [])
    assert leftovers(store) == []
    if replaced:
        assert store.load("tiny") == module


def test_failed_rename_puts_the_old_module_back(store, module, newer, monkeypatch):
    store.save(module)
    original = _files._rename

    def rename(source, target):
        if target == store.path / "tiny" and ".matmosaic-new-" in source.name:
            raise OSError(errno.EIO, "Input/output error")
        original(source, target)

    monkeypatch.setattr(_files, "_rename", rename)
    with pytest.raises(StoreError, match="Input/output error"):
        store.save(newer, overwrite=True)
    monkeypatch.undo()
    assert store.load("tiny") == module
    assert leftovers(store) == []


# The subprocesses write what DirectoryStore.save writes, without importing torch.
KILLED = """
import os, sys
from pathlib import Path
from matmosaic.modules import _files

target, source, hook, occurrence = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
original, calls = getattr(_files, hook), []

def killed(*args):
    calls.append(args)
    if len(calls) == occurrence:
        os._exit(9)
    return original(*args)

setattr(_files, hook, killed)
_files.write_files(target, _files.read_files(source), overwrite=True)
"""


@pytest.mark.parametrize("replaced", [False, True], ids=["first save", "overwrite"])
@pytest.mark.parametrize(
    ("hook", "occurrence"),
    [("_write", 2), ("_publish", 1), ("_rename", 1), ("_rename", 2), ("_discard", 1)],
    ids=["half written", "staged", "before the first rename", "between renames", "before tidying"],
)
def test_killed_writer_leaves_the_old_or_the_new(store, module, newer, tmp_path, hook, occurrence, replaced):
    if (hook, occurrence) == ("_rename", 2) and not replaced:
        pytest.skip("a first save renames once")
    newer.save(tmp_path / "source")
    store.path.mkdir()
    if replaced:
        store.save(module)
    arguments = [store.path / "tiny", tmp_path / "source", hook, occurrence]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert done.returncode == 9
    finished = hook == "_discard"
    assert store.names() == (["tiny"] if replaced or finished else [])
    if store.names():
        assert store.load("tiny") == (newer if finished else module)
    store.save(newer, overwrite=True)  # the lock is free, and leftovers are cleaned up
    assert store.load("tiny") == newer
    assert leftovers(store) == []


SAVER = """
import sys, time
from pathlib import Path
from matmosaic.exceptions import StoreError
from matmosaic.modules import _files

target, source, ready, times = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
contents = _files.read_files(source)
ready.touch()
while len(list(ready.parent.glob("ready-*"))) < 2:
    time.sleep(0.001)
try:
    for _ in range(times):
        _files.write_files(target, contents, overwrite=times > 1)
except StoreError as error:
    assert "already holds a module" in str(error), error
    print("taken")
else:
    print("saved")
"""


def save_at_once(store, modules, tmp_path, *, times):
    """Start two processes that save two modules under one name, as often as said."""
    processes = []
    for number, module in enumerate(modules):
        module.save(tmp_path / f"source-{number}")
        arguments = [store.path / "tiny", tmp_path / f"source-{number}", tmp_path / f"ready-{number}", times]
        command = [sys.executable, "-c", SAVER, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return processes


def outputs(processes):
    return sorted(process.communicate(timeout=60)[0].strip() for process in processes)


def test_two_processes_saving_one_name_at_once(store, module, newer, tmp_path):
    assert outputs(save_at_once(store, [module, newer], tmp_path, times=1)) == ["saved", "taken"]
    assert store.load("tiny") in (module, newer)


def test_readers_never_see_a_gap_while_two_processes_overwrite(store, module, newer, tmp_path):
    store.save(module)
    processes = save_at_once(store, [module, newer], tmp_path, times=50)
    while any(process.poll() is None for process in processes):
        assert store.names() == ["tiny"]
        assert store.card("tiny").version in ("1", "2")
        assert PretrainedModule.load(store.path / "tiny", verify=False) in (module, newer)
    assert outputs(processes) == ["saved", "saved"]
    assert leftovers(store) == []


def test_lock_that_is_never_released_is_reported(store, module, monkeypatch):
    monkeypatch.setattr(_files, "LOCK_TIMEOUT", 0.05)
    store.path.mkdir()
    with (
        FileLock(store.path / _files.LOCK_FILE),
        pytest.raises(StoreError, match="locked by another process"),
    ):
        store.save(module)


@pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="needs permissions"
)
def test_read_only_store_is_reported(store, module, newer):
    store.save(module)
    store.path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="permissions"):
            store.save(newer, overwrite=True)
        assert store.load("tiny") == module
    finally:
        store.path.chmod(0o700)


def test_store_below_a_file_is_reported(tmp_path, module):
    (tmp_path / "file").touch()
    store = DirectoryStore(Path(tmp_path / "file"))
    with pytest.raises(StoreError):
        store.names()
    with pytest.raises(StoreError):
        store.save(module)
