"""A function called in several threads that start at once, and what they returned or raised."""

import threading
from concurrent.futures import ThreadPoolExecutor


def in_threads(function, count=8):
    """Call `function(number of the thread)` in threads that start together; raise what they do."""
    barrier = threading.Barrier(count)

    def start(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(start, i) for i in range(count)]]


class Beside:
    """A block beside which a function is called again and again in a thread; raises what it does."""

    def __init__(self, function):
        self.function = function

    def __enter__(self):
        self.pool, self.done, self.calls = ThreadPoolExecutor(1), threading.Event(), 0
        self.future = self.pool.submit(self._repeat)
        return self

    def _repeat(self):
        while not self.done.is_set():
            self.function()
            self.calls += 1

    def __exit__(self, *_):
        self.done.set()
        self.pool.shutdown()
        self.future.result()
