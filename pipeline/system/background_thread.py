"""Work that a thread does beside this one, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_behind(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    begin: tuple[Callable[..., object], tuple[Any, ...]] | None = None,
) -> Iterator[Result]:
    """Yield the function's result for each item; a thread works on the next meanwhile, and its errors are raised here.

    Items are made by the caller's thread. The other calls `begin` first: a function and its arguments.
    """
    with ThreadPoolExecutor(1, "beside", *(begin or ())) as thread:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)
