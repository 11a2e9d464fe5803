import pytest
import torch


@pytest.fixture
def float64():
    """Double precision by default, where equality is tested to more digits than single has."""
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(torch.float32)
