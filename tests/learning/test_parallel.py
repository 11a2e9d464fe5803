"""Functions side by side give what they give one after the other, and leave torch as it was."""

import threading
from functools import cache

import pytest
import torch

from matmosaic.learning import parallel
from matmosaic.learning.parallel import differentiable_side_by_side, map_side_by_side


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def n_threads(request):
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_results_come_in_order(n_threads):
    assert map_side_by_side(lambda item: item**2, range(7)) == [0, 1, 4, 9, 16, 25, 36]
    assert map_side_by_side(lambda item: item, []) == []


def test_threads_run_at_the_same_time(two_threads):
    """Each of two calls waits for the other: one after the other, the first would wait in vain."""
    barrier = threading.Barrier(2, timeout=10)
    map_side_by_side(lambda item: barrier.wait(), range(2))


def test_each_thread_uses_one_thread_of_torch(two_threads):
    assert map_side_by_side(lambda item: torch.get_num_threads(), range(4)) == [1] * 4
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("n_items", "each"), [(2, 2), (3, 1), (5, 1)])
def test_threads_share_those_of_the_caller(n_items, each, two_threads):
    torch.set_num_threads(5 if n_items == 2 else 4)
    before = torch.get_num_threads()
    assert map_side_by_side(lambda item: torch.get_num_threads(), range(n_items)) == [each] * n_items
    assert torch.get_num_threads() == before


def test_callers_that_start_at_once_share_a_pool(two_threads, monkeypatch):
    """As in a search that runs fits in threads."""
    monkeypatch.setattr(parallel, "_pool", cache(parallel._pool.__wrapped__))
    ready = threading.Barrier(6, timeout=10)
    found = []

    def search():
        torch.get_num_threads()
        ready.wait()
        map_side_by_side(lambda item: item, range(2))
        found.append(torch.get_num_threads())

    callers = [threading.Thread(target=search) for _ in range(6)]
    for step in ("start", "join"):
        for caller in callers:
            getattr(caller, step)()
    assert found == [2] * 6
    assert parallel._pool.cache_info().misses == 1


def test_a_thread_started_later_has_the_callers_number(two_threads):
    map_side_by_side(lambda item: item, range(2))
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]


@pytest.mark.parametrize("grad", [False, True])
def test_gradients_are_recorded_as_for_the_caller(grad, n_threads):
    with torch.set_grad_enabled(grad):
        assert map_side_by_side(lambda item: torch.is_grad_enabled(), range(4)) == [grad] * 4
    assert torch.is_grad_enabled()


def test_exception_reaches_the_caller(n_threads):
    def fail(item):
        if item == 2:
            raise ValueError("the third")
        return item

    with pytest.raises(ValueError, match="the third"):
        map_side_by_side(fail, range(4))
    assert map_side_by_side(abs, [-1, -2]) == [1, 2]  # the threads live on


# --- with gradients ----------------------------------------------------------------------------------


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(3, generator=generator, requires_grad=True) for _ in range(number)]
        for number in (1, 2, 0, 3)  # the third function has none
    ]


def functions(groups):
    constant = torch.tensor([1.0, -2.0, 3.0])
    return [lambda own=own: torch.stack([constant, *own]).prod(dim=0).sin() for own in groups]


def test_outputs_and_gradients_are_those_of_one_after_the_other(n_threads):
    plain, parallel = parameters(), parameters()
    expected = [function() for function in functions(plain)]
    got = differentiable_side_by_side(functions(parallel), parallel)
    for outputs in (expected, got):
        sum((number + 1) * one.square().sum() for number, one in enumerate(outputs)).backward()
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    for some, others in zip(plain, parallel, strict=True):
        for one, other in zip(some, others, strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


def test_a_parameter_that_a_function_does_not_read_gets_no_gradient(n_threads):
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    outputs = differentiable_side_by_side([lambda: used * 2, lambda: used.detach() * 3], [[used, unused], []])
    sum(one.sum() for one in outputs).backward()
    assert used.grad.tolist() == [2, 2]
    assert unused.grad is None


def test_second_derivatives_are_refused(two_threads):
    groups = parameters()
    outputs = differentiable_side_by_side(functions(groups), groups)
    (grad,) = torch.autograd.grad(outputs[0].square().sum(), groups[0][0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_an_output_that_the_loss_ignores_is_no_error(n_threads):
    groups = parameters()
    outputs = differentiable_side_by_side(functions(groups), groups)
    outputs[0].sum().backward()
    assert groups[0][0].grad.abs().sum() > 0
    assert not any(one.grad is not None and one.grad.any() for one in groups[1] + groups[3])


def test_without_gradients_nothing_is_recorded(n_threads):
    groups = parameters()
    with torch.no_grad():
        assert not any(one.requires_grad for one in differentiable_side_by_side(functions(groups), groups))


class Failing(torch.autograd.Function):
    """Fails on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("on the way back")


def test_exception_on_the_way_back_reaches_the_caller(n_threads):
    groups = [[torch.ones(2, requires_grad=True)] for _ in range(2)]
    calls = [lambda: groups[0][0] * 2, lambda: Failing.apply(groups[1][0])]
    outputs = differentiable_side_by_side(calls, groups)
    with pytest.raises(ValueError, match="on the way back"):
        sum(one.sum() for one in outputs).backward()


def test_no_global_state_is_changed(n_threads):
    groups = parameters()
    before = torch.get_rng_state()
    sum(one.sum() for one in differentiable_side_by_side(functions(groups), groups)).backward()
    assert torch.get_num_threads() == n_threads
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_graph_is_freed_after_the_step(two_threads):
    """What a step records must not outlive it: it is by far the largest memory."""
    import gc
    import weakref

    groups = parameters()
    outputs = differentiable_side_by_side(functions(groups), groups)
    kept = weakref.ref(outputs[0].grad_fn)
    sum(one.sum() for one in outputs).backward()
    del outputs
    gc.collect()
    assert kept() is None
