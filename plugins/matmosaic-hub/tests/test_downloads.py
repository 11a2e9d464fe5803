"""What arrives from a server is checked; what does not arrive is asked for again, once."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matmosaic_hub import HubStore, remote

from matmosaic.exceptions import CorruptModuleError, ModuleFormatError, StoreError


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(remote, "CHUNK", 1000)


def blobs(store):
    folder = store.cache.folder / "blobs"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_are_downloaded_once(mirror, weights, web, module):
    assert mirror.load("tiny") == module
    assert HubStore(web.url).load("tiny") == module
    assert web.asked_for(weights) == [None]
    assert len(blobs(mirror)) == 2


def test_listing_and_cards_read_no_weights(mirror, weights, web, module):
    assert mirror.names() == ["tiny"]
    assert mirror.summary("tiny").target == "formation energy"
    assert [path for path, _ in web.asked] == ["index.json"]
    assert mirror.card("tiny") == module.card
    assert web.asked_for(weights) == []


@pytest.mark.parametrize(
    "fault", ["truncates", "truncates without length", "alters", "sends more", "never ends"]
)
def test_what_arrives_altered_is_asked_for_once_more(mirror, weights, web, module, fault):
    web.fail(weights, fault)
    assert mirror.load("tiny") == module
    assert web.asked_for(weights) == [None, None]


@pytest.mark.parametrize(
    "fault", ["truncates", "truncates without length", "alters", "sends more", "never ends"]
)
def test_what_arrives_altered_twice_is_refused_and_removed(mirror, weights, web, fault):
    web.fail(weights, fault, fault)
    with pytest.raises(CorruptModuleError, match="arrived truncated or altered, 2 times: expected"):
        mirror.load("tiny")
    assert len(blobs(mirror)) == 1  # the card
    assert web.asked_for(weights) == [None, None]


def test_interrupted_download_is_continued(mirror, weights, web, module, small_chunks):
    web.fail(weights, "breaks off")
    assert mirror.load("tiny") == module
    first, second = web.asked_for(weights)
    assert first is None
    assert second.startswith("bytes=") and int(second[6:-1]) > 0


def test_a_later_call_continues_what_two_attempts_left(mirror, weights, web, module, small_chunks):
    web.fail(weights, "breaks off", "breaks off")
    with pytest.raises(StoreError, match=r"cannot be downloaded.*put http.* at .*by hand"):
        mirror.load("tiny")
    assert any(name.endswith(".part") for name in blobs(mirror))
    assert HubStore(web.url).load("tiny") == module
    offsets = [int((asked or "bytes=0-")[6:-1]) for asked in web.asked_for(weights)]
    assert offsets == sorted(set(offsets))


def test_server_that_fails_after_an_interruption_loses_nothing(mirror, weights, web, module, small_chunks):
    web.fail(weights, "breaks off", "fails")
    with pytest.raises(StoreError, match="cannot be downloaded"):
        mirror.load("tiny")
    (part,) = (mirror.cache.folder / "blobs").rglob("*.part")
    size = part.stat().st_size
    assert size > 0
    assert HubStore(web.url).load("tiny") == module
    assert web.asked_for(weights) == [None, f"bytes={size}-", f"bytes={size}-"]


def test_refused_range_begins_anew(mirror, weights, web, module, small_chunks):
    web.fail(weights, "breaks off", "refuses range")
    with pytest.raises(StoreError, match="416"):
        mirror.load("tiny")
    assert HubStore(web.url).load("tiny") == module
    assert web.asked_for(weights)[2] is None


def test_server_without_ranges(mirror, weights, web, module, small_chunks):
    web.fail(weights, "breaks off", "ignores range")
    assert mirror.load("tiny") == module


def test_altered_beginning_of_an_interrupted_download_is_dropped(mirror, weights, web, module, small_chunks):
    web.fail(weights, "begins wrong")
    assert mirror.card("tiny") == module.card
    with pytest.raises(CorruptModuleError):
        mirror.load("tiny")  # the second attempt, which continued, was the last
    assert mirror.load("tiny") == module


def test_stalled_download_is_continued(mirror, weights, web, module, small_chunks):
    web.fail(weights, "stalls")
    start = time.perf_counter()
    assert mirror.load("tiny") == module
    assert time.perf_counter() - start < 5


def test_stalled_server_is_reported(mirror, web, folder):
    web.fail(folder / "index.json", "stalls")
    with pytest.raises(StoreError, match=r"index\.json cannot be read \(.*Timeout"):
        mirror.names()


def told(mirror, folder, name):
    """Return address, size and place of a file, which messages about it name."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    file = index["modules"]["tiny"]["1"]["files"][name]
    (path,) = folder.rglob(name)
    place = mirror.cache.folder / "blobs" / file["sha256"][:2] / file["sha256"]
    return f"{mirror.url}/{path.relative_to(folder).as_posix()}", f"({file['size']:,} bytes) at {place}"


def test_failing_server_is_reported_with_what_to_do(mirror, weights, web, folder):
    web.fail(weights.with_name("card.json"), "fails", "fails")
    with pytest.raises(StoreError) as caught:
        mirror.load("tiny")
    message = str(caught.value)
    assert "Reading card.json failed (ClientResponseError: 503" in message
    assert ".." not in message
    for name in ("card.json", "weights.safetensors"):
        address, place = told(mirror, folder, name)
        assert f"{address} {place}" in message
        assert message.count(address) == 1


def test_what_is_cached_need_not_be_put_there(mirror, weights, web, folder):
    mirror.card("tiny")
    web.fail(weights, "fails", "fails")
    with pytest.raises(StoreError, match=r"put http.*weights\.safetensors .* by hand") as caught:
        mirror.load("tiny")
    assert told(mirror, folder, "card.json")[0] not in str(caught.value)


def test_file_put_by_hand_is_used(mirror, weights, web, module):
    card = mirror.card("tiny")
    file = mirror._find("tiny").files["weights.safetensors"]
    mirror.cache.place(file).parent.mkdir(parents=True, exist_ok=True)
    mirror.cache.place(file).write_bytes(weights.read_bytes())
    assert mirror.load("tiny").card == card
    assert web.asked_for(weights) == []


def test_cached_file_that_was_altered_is_downloaded_anew(mirror, weights, web, module):
    mirror.load("tiny")
    place = mirror.cache.place(mirror._find("tiny").files["weights.safetensors"])
    place.write_bytes(place.read_bytes()[:-1])
    assert mirror.load("tiny") == module
    assert web.asked_for(weights) == [None, None]


def test_file_that_is_not_there_is_reported(mirror, weights):
    weights.unlink()
    with pytest.raises(StoreError, match=r"lists 'tiny@1', but there is no http://.*tell the hub's owner"):
        mirror.load("tiny")


def test_full_disk_is_noticed_before(mirror, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(
        StoreError, match=r"do not fit into the cache .*where 10 bytes are free.*MATMOSAIC_CACHE"
    ):
        mirror.card("tiny")


def test_two_processes_download_a_file_once(web, weights):
    code = "import sys; from matmosaic_hub import HubStore; HubStore(sys.argv[1]).card('tiny')"
    processes = [subprocess.Popen([sys.executable, "-c", code, web.url]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert web.asked_for(weights.with_name("card.json")) == [None]


# --- without network ---------------------------------------------------------------------------------


def test_cached_modules_work_offline(mirror, web, module, monkeypatch):
    mirror.load("tiny")
    asked = len(web.asked)
    assert HubStore(web.url, offline=True).load("tiny") == module
    monkeypatch.setenv("MATMOSAIC_OFFLINE", "1")
    store = HubStore(web.url)
    assert (store.names(), store.card("tiny")) == (["tiny"], module.card)
    assert len(web.asked) == asked
    with pytest.raises(StoreError, match="cannot be written offline"):
        HubStore("s3://bucket/hub").publish(module)


def test_what_is_not_cached_offline_says_where_to_put_it(mirror, web):
    offline = HubStore(web.url, offline=True)
    with pytest.raises(
        StoreError, match=r"index of http.* is not cached.*put http.*/index\.json at .*by hand"
    ):
        offline.names()
    mirror.card("tiny")
    with pytest.raises(
        StoreError,
        match=r"is not cached.*put http.*weights\.safetensors \([\d,.]+ (bytes|MB)\) at .* by hand",
    ):
        offline.load("tiny")


def test_folders_of_this_machine_need_no_network(folder, module):
    store = HubStore(folder.as_uri(), offline=True)
    assert store.load("tiny") == module
    assert not store.cache.folder.exists()


def test_unreachable_hub_is_used_from_the_cache(mirror, web, module, caplog):
    mirror.load("tiny")
    web.close()
    assert HubStore(web.url, timeout=1).load("tiny") == module
    assert "Going on with its index as it was when it was reached last" in caplog.text


def test_index_of_any_size_is_not_read_to_its_end(mirror, web, folder, monkeypatch):
    from matmosaic_hub import index

    monkeypatch.setitem(index.LIMITS, "index.json", 10_000)
    web.fail(folder / "index.json", "never ends")
    with pytest.raises(ModuleFormatError, match=r"is larger than the 10,000 bytes"):
        mirror.names()


def test_web_page_instead_of_an_index_is_told(mirror, web, folder):
    (folder / "index.json").write_text("\ufeff\n<!DOCTYPE html><title>Log in</title>", encoding="utf-8")
    with pytest.raises(StoreError, match=r"is a web page and no index: this is no hub's answer.*by hand"):
        mirror.names()


def test_hub_behind_a_web_page_is_used_from_the_cache(mirror, web, folder, module, caplog):
    mirror.load("tiny")
    (folder / "index.json").write_text("<html>", encoding="utf-8")
    assert HubStore(web.url).load("tiny") == module
    assert "is a web page" in caplog.text and "Going on with its index" in caplog.text


def test_unreachable_hub_that_is_not_cached_says_where_to_put_its_index(mirror, web):
    web.close()
    place = mirror.cache.index_place(mirror.url)
    with pytest.raises(StoreError) as caught:
        mirror.names()
    assert str(caught.value).endswith(
        f"To use it without network, put {web.url}/index.json at {place} by hand."
    )


def test_altered_index_in_the_cache_is_named(mirror, web):
    mirror.names()
    place = mirror.cache.index_place(mirror.url)
    place.write_bytes(place.read_bytes()[:-10])
    with pytest.raises(ModuleFormatError) as caught:
        HubStore(web.url, offline=True).names()
    assert str(caught.value).startswith(f"{place} [cached index of {web.url}] is not readable JSON")


# --- folders of this machine -------------------------------------------------------------------------


def test_pulled_module_is_there_without_its_folder(folder, module, caplog):
    store = HubStore(folder.as_uri())
    assert store.pull("tiny") == module
    assert len(blobs(store)) == 2
    folder.rename(folder.with_name("unplugged"))
    assert HubStore(store.url).load("tiny") == module
    assert HubStore(store.url).names() == ["tiny"]
    assert "Going on with its index as it was" in caplog.text


def test_pulled_module_does_not_hide_what_the_folder_has(folder, weights, make):
    store = HubStore(folder.as_uri())
    store.pull("tiny")
    store.publish(make(version="2"))
    assert HubStore(store.url).versions("tiny") == ["1", "2"]
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptModuleError, match="was truncated or altered"):
        HubStore(store.url).load("tiny", "1")


def test_zip_file_of_this_machine_needs_no_network(folder, tmp_path, module):
    path = shutil.make_archive(str(tmp_path / "hub"), "zip", folder)
    for url in (Path(path).as_uri(), f"zip://::{path}"):
        store = HubStore(url, offline=True)
        assert store.load("tiny") == module
        store._remote.fs.close()


# --- caches that cannot be written -------------------------------------------------------------------


@pytest.fixture
def read_only(monkeypatch):
    """Return a function after whose call no file can be written, replaced or removed."""

    def refuse(*arguments, **options):
        raise PermissionError("this folder is read-only")

    def protect():
        for name in ("unlink", "mkdir", "replace"):
            monkeypatch.setattr(Path, name, refuse)

    return protect


def test_read_only_cache_goes_on_when_the_hub_changes(mirror, web, folder, module, make, read_only, caplog):
    mirror.load("tiny")
    HubStore(folder.as_uri()).publish(make("other"))
    read_only()
    store = HubStore(web.url)
    assert store.load("tiny") == module
    assert store.names() == ["other", "tiny"]
    assert "is not kept: the cache cannot be written" in caplog.text


def test_altered_file_in_a_read_only_cache_counts_as_missing(mirror, web, read_only):
    mirror.load("tiny")
    place = mirror.cache.place(mirror._find("tiny").files["weights.safetensors"])
    place.write_bytes(b"altered")
    read_only()
    with pytest.raises(StoreError, match="is not cached, and the network is not to be used"):
        HubStore(web.url, offline=True).load("tiny")
    with pytest.raises(StoreError, match="cannot be downloaded. The cache .* cannot be used"):
        HubStore(web.url).load("tiny")


# --- an index that lies about sizes ------------------------------------------------------------------


@pytest.mark.parametrize("difference", [-1, 1, 1000])
def test_wrong_size_in_an_index_removes_nothing_from_the_cache(mirror, web, folder, weights, difference):
    mirror.load("tiny")
    path = folder / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["modules"]["tiny"]["1"]["files"]["weights.safetensors"]["size"] += difference
    path.write_text(json.dumps(index), encoding="utf-8")
    liar = HubStore(web.url)
    with pytest.raises(
        ModuleFormatError, match=r"lists 'tiny@1' with a weights\.safetensors of [\d,]+.*do not trust"
    ):
        liar.load("tiny")
    assert len(blobs(liar)) == 2
    assert web.asked_for(weights) == [None]


def test_wrong_size_in_an_index_is_refused_after_the_download(mirror, folder, weights):
    path = folder / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["modules"]["tiny"]["1"]["files"]["weights.safetensors"]["size"] += 1
    path.write_text(json.dumps(index), encoding="utf-8")
    for store in (mirror, HubStore(folder.as_uri())):
        with pytest.raises(ModuleFormatError, match="but what has its sha256 has"):
            store.load("tiny")
    assert len(blobs(mirror)) == 2
