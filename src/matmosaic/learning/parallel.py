"""Run experts side by side: each on its share of the threads, rather than all threads on one expert.

An expert's arrays are small. Threads that share one array wait for each other after every
operation, and on a busy machine much longer; threads with an expert of their own wait once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = Lock()


def map_side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to items, in as many threads as torch may use here; results in order.

    Gradients are recorded if they are for the caller.
    """
    n_threads = min(torch.get_num_threads(), len(items))
    if n_threads < 2:
        return [function(item) for item in items]
    grad = torch.is_grad_enabled()

    def call(item: Item) -> Result:
        with torch.set_grad_enabled(grad):
            return function(item)

    with _lock:  # Callers that start at once would each make a pool.
        pool = _pool(n_threads, torch.get_num_threads() // n_threads, os.getpid())
    return list(pool.map(call, items))


@cache
def _pool(n_threads: int, each: int, process: int) -> ThreadPoolExecutor:
    """Return threads that run torch on ``each`` threads; a forked process gets its own."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_threads, "matmosaic", initializer=_use_threads, initargs=(each,))
    started = Barrier(n_threads)
    list(pool.map(lambda _: started.wait(), range(n_threads)))
    # The setting is a thread's own, but torch also keeps the last one for threads that start later.
    torch.set_num_threads(before)
    return pool


def _use_threads(number: int) -> None:
    # A thread takes torch's last number when it first needs one, and would forget one set before that.
    torch.get_num_threads()
    torch.set_num_threads(number)


def differentiable_side_by_side(
    functions: Sequence[Callable[[], Tensor]], parameters: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """Call functions side by side, and run their backward passes side by side too.

    Parameters
    ----------
    functions : sequence of callables
        Each computes one tensor from its own parameters and constants.
    parameters : sequence of sequences of Tensor
        What each function's result depends on and is trained.

    Returns
    -------
    list of Tensor
        The results.
    """
    trained = any(map(len, parameters)) and torch.is_grad_enabled()
    if not trained or min(torch.get_num_threads(), len(functions)) < 2:
        return map_side_by_side(lambda function: function(), functions)
    flat = [parameter for some in parameters for parameter in some]
    return list(_SideBySide.apply(functions, [len(some) for some in parameters], *flat))


class _SideBySide(torch.autograd.Function):
    """Functions as one node of the graph, whose own graphs are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, functions: Sequence[Callable[[], Tensor]], sizes: list[int], *flat: Tensor) -> Any:
        def call(function: Callable[[], Tensor]) -> Tensor:
            with torch.enable_grad():
                return function()

        ctx.results = map_side_by_side(call, functions)
        ctx.parameters = torch.arange(len(flat)).split(sizes)
        ctx.flat = flat
        return tuple(result.detach() for result in ctx.results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        def call(number: int) -> list[Tensor | None]:
            result, places = ctx.results[number], ctx.parameters[number].tolist()
            if not result.requires_grad:
                return [None] * len(places)
            parameters = [ctx.flat[place] for place in places]
            return list(torch.autograd.grad(result, parameters, grads[number], allow_unused=True))

        found = map_side_by_side(call, range(len(grads)))
        return None, None, *(grad for some in found for grad in some)
