"""Devices, random numbers and memory of the device."""

import numpy as np
import pytest
import torch

from matmosaic.estimators._environment import device_memory, resolve_device, seeded
from matmosaic.exceptions import DeviceMemoryError, InvalidParameterError


def test_auto_is_a_device_that_is_present():
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_unknown_device_is_refused(make, labelled):
    with pytest.raises(InvalidParameterError, match=r"'device' must be .* Got 'nonsense'"):
        make(device="nonsense").fit(*labelled)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is present")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_absent_device_is_refused(device):
    with pytest.raises(InvalidParameterError, match=f"device of torch that is present. Got '{device}'"):
        resolve_device(device)


def test_seeded_block_leaves_the_global_numbers_alone():
    expected = torch.random.get_rng_state()
    with seeded(0, "cpu") as rng:
        drawn = torch.rand(3), rng.rand()
    assert torch.equal(torch.random.get_rng_state(), expected)
    with seeded(0, "cpu") as rng:
        assert torch.equal(torch.rand(3), drawn[0])
        assert rng.rand() == drawn[1]


def test_seeded_block_that_fails_leaves_the_global_numbers_alone():
    expected = torch.random.get_rng_state()
    with pytest.raises(KeyError), seeded(0, "cpu"):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_random_state_object_is_drawn_from():
    state = np.random.RandomState(0)
    with seeded(state, "cpu") as rng:
        assert rng is state
        first = torch.rand(1)
    with seeded(state, "cpu"):
        assert torch.rand(1) != first


def test_memory_error_says_what_to_lower():
    with (
        pytest.raises(DeviceMemoryError, match="batch_size=8. Lower 'batch_size'") as caught,
        device_memory(8),
    ):
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_of_the_device_pass():
    with pytest.raises(RuntimeError, match="another"), device_memory(8):
        raise RuntimeError("another")


@pytest.mark.parametrize("step", ["fit", "predict"])
def test_fit_and_predict_report_memory_errors(step, make, labelled, monkeypatch):
    X, y = labelled
    fitted = make().fit(X, y)

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("matmosaic.backbones.cgcnn.Embedding.forward", fail)
    with pytest.raises(DeviceMemoryError, match="batch_size=250"):
        make().fit(X, y) if step == "fit" else fitted.predict(X)
