"""What arrives from a server is checked; what does not arrive is asked for again, once."""

import json
import subprocess
import sys
import time

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
    with pytest.raises(StoreError, match=r"cannot be downloaded.*put it at .*by hand"):
        mirror.load("tiny")
    assert any(name.endswith(".part") for name in blobs(mirror))
    assert HubStore(web.url).load("tiny") == module
    offsets = [int((asked or "bytes=0-")[6:-1]) for asked in web.asked_for(weights)]
    assert offsets == sorted(set(offsets))


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


def test_failing_server_is_reported_with_what_to_do(mirror, weights, web, folder):
    path = weights
    web.fail(path, "fails", "fails")
    with pytest.raises(StoreError) as caught:
        mirror.load("tiny")
    message = str(caught.value)
    sha256 = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    file = sha256["modules"]["tiny"]["1"]["files"]["weights.safetensors"]
    assert f"{web.url}/{path.relative_to(folder).as_posix()} (" in message
    assert f"{file['size']:,} bytes" in message
    assert "503" in message
    assert (
        f"put it at {mirror.cache.folder / 'blobs' / file['sha256'][:2] / file['sha256']} by hand" in message
    )


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
        StoreError, match=r"weights\.safetensors \([\d,.]+ (bytes|MB)\) is not cached.*put it at"
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
    from matmosaic_hub import store

    monkeypatch.setitem(store.LIMITS, "index.json", 10_000)
    web.fail(folder / "index.json", "never ends")
    with pytest.raises(ModuleFormatError, match=r"is larger than the 10,000 bytes"):
        mirror.names()
