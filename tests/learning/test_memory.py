import torch

from matmosaic.learning.memory import ADAPTS_TO, keep_freed_memory


def test_block_is_freed_at_once_and_never_written(monkeypatch):
    """It only tells the C library a size: torch's settings and random numbers stay as they are."""
    made = []
    original = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *args, **kwargs: made.append(original(*args, **kwargs)) or made[-1]
    )
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    assert keep_freed_memory() is None
    assert [one.nbytes for one in made] == [ADAPTS_TO]
    assert ADAPTS_TO < 32 * 2**20  # what glibc adapts to at most, on 64 bits
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[1:]


def test_block_lies_in_the_memory_of_the_processor():
    with torch.device("meta"):  # as if another device were the default
        keep_freed_memory()
