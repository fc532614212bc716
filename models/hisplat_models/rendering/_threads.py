"""Work spread over torch's number of threads; kernels release the GIL."""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch


class _Pools:
    """One lazily made pool per size; forgotten by forked children, whose threads are gone."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_size: dict[int, ThreadPoolExecutor] = {}

    def get(self, size: int) -> ThreadPoolExecutor:
        """The pool of this size."""
        with self.lock:
            if size not in self.by_size:
                self.by_size[size] = ThreadPoolExecutor(size, "hisplat-render")
            return self.by_size[size]


_pools = _Pools()
_of_parents: list[_Pools] = []


def _forget_pools() -> None:
    global _pools
    # Kept alive: finalising a pool wakes its threads through locks that nobody will release.
    _of_parents.append(_pools)
    _pools = _Pools()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def for_ranges(count: int, step: int, work: Callable[[int, int], None]) -> None:
    """Calls ``work(start, stop)`` for consecutive ranges that cover 0 to ``count``.

    The calling thread takes part, so concurrent callers that share a pool always progress. The
    ranges don't depend on the number of threads.
    """
    helpers = min(torch.get_num_threads(), -(-count // step)) - 1
    numbers = itertools.count()  # next() is atomic

    def drain() -> None:
        while (start := next(numbers) * step) < count:
            work(start, min(start + step, count))

    if helpers < 1:
        drain()
        return
    pool = _pools.get(torch.get_num_threads() - 1)
    futures = [pool.submit(drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled():
            future.result()
