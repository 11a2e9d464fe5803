"""Tiny modules, hubs of them, and servers on this machine that answer well or badly."""

import contextlib
import http.server
import secrets
import threading
import time
from dataclasses import replace

import pytest
import torch
from matmosaic_hub import HubStore, opener

from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.modules import ModuleCard, PretrainedModule


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads or writes the cache or the configuration of whoever runs it."""
    monkeypatch.setenv("MATMOSAIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATMOSAIC_HUBS", str(tmp_path / "hubs.toml"))
    monkeypatch.delenv("MATMOSAIC_OFFLINE", raising=False)
    monkeypatch.setattr(opener, "_stores", {})


@pytest.fixture(scope="session")
def module():
    torch.manual_seed(0)
    backbone = CGCNN(width=2, n_convolutions=1)
    card = ModuleCard(
        name="tiny",
        backbone="cgcnn",
        backbone_options=backbone.options(),
        graph=backbone.graph_settings.to_dict(),
        target="formation energy",
        unit="eV/atom",
        license_weights="MIT",
        fingerprints=["a" * 64],
    )
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    return PretrainedModule(card, weights).with_golden()


@pytest.fixture(scope="session")
def make(module):
    """Return a function that makes modules whose weights are those of a seed."""

    def make(name="tiny", *, version="1", seed=0, **fields):
        weights = {key: value + 0.01 * seed if seed else value for key, value in module.weights.items()}
        fields = {"golden": [], **fields} if seed else fields
        return PretrainedModule(
            replace(module.card, name=name, version=version, sha256=None, **fields), weights
        )

    return make


@pytest.fixture
def folder(tmp_path, module):
    """The folder of a hub that holds one module."""
    folder = tmp_path / "hub"
    HubStore(folder.as_uri()).publish(module)
    return folder


@pytest.fixture
def weights(folder):
    """Path of that module's weights."""
    (path,) = folder.glob("modules/tiny/*/*/weights.safetensors")
    return path


# --- a web server ------------------------------------------------------------------------------------


class Web:
    """A web server of a folder that misbehaves on request, and remembers what it was asked."""

    def __init__(self, folder):
        self.folder = folder
        self.faults = {}  # path -> a fault for each request that is still to be answered badly
        self.asked = []  # (path, Range)
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                web.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, request):
        path, asked = request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((path, asked))
        file = self.folder / path
        if not file.is_file():
            request.send_error(404)
            return
        faults = self.faults.get(path, [])
        content = file.read_bytes()
        start = int(asked.partition("=")[2].partition("-")[0]) if asked else 0
        if faults:
            faults.pop(0)(request, content, start)
        else:
            send(request, content[start:], start)

    def fail(self, path, *faults):
        found = [FAULTS[fault] for fault in faults]
        self.faults[path.relative_to(self.folder).as_posix()] = found

    def asked_for(self, path):
        return [asked for name, asked in self.asked if name == path.relative_to(self.folder).as_posix()]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def send(request, content, start=0, *, length=None, status=None):
    request.send_response(status or (206 if start else 200))
    if length != "none":
        request.send_header("Content-Length", str(len(content) if length is None else length))
    else:
        request.send_header("Connection", "close")
        request.close_connection = True
    request.end_headers()
    request.wfile.write(content)
    request.wfile.flush()


def _breaks_off(request, content, start):
    """Promise all, send half of the rest, close when that has been read."""
    rest = content[start:]
    send(request, rest[: len(rest) // 2], start, length=len(rest))
    time.sleep(0.2)
    request.close_connection = True


def _begins_wrong(request, content, start):
    _breaks_off(request, b"?" + content[1:], start)


def _truncates(request, content, start):
    """Send half as if it were all."""
    send(request, content[: len(content) // 2], 0)


def _truncates_without_length(request, content, start):
    send(request, content[: len(content) // 2], 0, length="none")


def _alters(request, content, start):
    send(request, content[:-1] + bytes([content[-1] ^ 1]), 0)


def _sends_more(request, content, start):
    send(request, content + b"and more", 0)


def _never_ends(request, content, start):
    send(request, content, 0, length="none")
    with contextlib.suppress(OSError):
        while True:
            request.wfile.write(bytes(1 << 16))


def _ignores_range(request, content, start):
    send(request, content, 0)


def _stalls(request, content, start):
    """Send half, then nothing, and keep the connection."""
    send(request, content[start:][: len(content) // 2], start, length=len(content) - start)
    time.sleep(1.0)
    request.close_connection = True


def _fails(request, content, start):
    request.send_error(503)


def _refuses_range(request, content, start):
    request.send_error(416)


FAULTS = {
    "begins wrong": _begins_wrong,
    "breaks off": _breaks_off,
    "truncates": _truncates,
    "truncates without length": _truncates_without_length,
    "alters": _alters,
    "sends more": _sends_more,
    "never ends": _never_ends,
    "ignores range": _ignores_range,
    "stalls": _stalls,
    "fails": _fails,
    "refuses range": _refuses_range,
}


@pytest.fixture
def web(folder):
    web = Web(folder)
    yield web
    web.close()


@pytest.fixture
def mirror(web):
    pytest.importorskip("aiohttp", reason="needs matmosaic-hub[http]")
    return HubStore(web.url, timeout=0.3)


# --- S3 ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_server():
    """URL of moto's S3 server, with the bucket `bucket`.

    It answers one request at a time: moto compares the condition of a conditional PUT and stores the object
    in two steps, which S3 does in one.
    """
    pytest.importorskip("s3fs", reason="needs matmosaic-hub[s3]")
    pytest.importorskip("moto", reason="needs moto[s3,server]")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environment, start_response):
        with lock:
            return application(environment, start_response)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Address of an empty hub on S3; credentials and endpoint are in the environment, as users have them."""
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "very-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.close()
    return f"s3://bucket/{secrets.token_hex(4)}"
