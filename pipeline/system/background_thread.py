"""Overlap of a producer in this thread with work on its items in a second thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_background(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    initializer: tuple[Callable[..., object], tuple[Any, ...]] | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, computed by one background thread.

    The caller's thread draws the next item while the background thread works on the previous one. Results lag one
    item behind, so that at most two items are in memory.

    Parameters
    ----------
    function
        Called in the background thread; its errors are raised here.
    items
        Drawn in the caller's thread.
    initializer
        Function and arguments that the background thread calls before its first item.

    Examples
    --------
    >>> list(map_in_background(len, ["a", "bcd"]))
    [1, 3]
    """
    with ThreadPoolExecutor(1, "background", *(initializer or ())) as thread:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(thread.submit(function, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        yield from (future.result() for future in pending)
