"""Nothing is collected where the plugin is not installed."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("matmosaic_schnet") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
