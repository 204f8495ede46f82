"""The steps of consecutive cases run at the same time: one case is read, one predicted and one written."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.inference.case_record import CaseRecord
from pipeline.inference.case_steps import CaseInProgress, CaseSteps
from pipeline.inference.sources import Job


def run_overlapped(
    steps: CaseSteps,
    jobs: Sequence[Job],
    on_record: Callable[[CaseRecord], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Read the next case and write the previous one while the network works on the current one.

    A large volume has the memory to itself: no case is read ahead of it, and none waits to be written.

    Parameters
    ----------
    steps
        The steps of one case.
    jobs
        Cases in their order.
    on_record
        Called in this thread with the record of each case, in the order of `jobs`.
    should_stop
        No further case is started once it returns True.

    Raises
    ------
    OSError
        Where the output folder has failed.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: Future[CaseInProgress | CaseRecord] | None = None
        writing: Future[CaseRecord] | None = None
        for index, job in enumerate(jobs):
            if should_stop():
                break
            read = (reading or reader.submit(steps.read, job)).result()
            is_large = isinstance(read, CaseInProgress) and read.is_large
            following = jobs[index + 1] if index + 1 < len(jobs) else None
            reading = reader.submit(steps.read, following) if following and not is_large else None
            if is_large and writing is not None:
                on_record(writing.result())
                writing = None
            predicted = steps.predict(read) if isinstance(read, CaseInProgress) else read
            # Each reference would keep the arrays of a case in memory while the next one is predicted.
            del read
            if writing is not None:
                on_record(writing.result())
                writing = None
            if isinstance(predicted, CaseRecord):
                on_record(predicted)
                continue
            writing = writer.submit(steps.write, predicted)
            del predicted
            if is_large:
                on_record(writing.result())
                writing = None
        if writing is not None:
            on_record(writing.result())
