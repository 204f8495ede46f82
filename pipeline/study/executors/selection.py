"""The choice of an executor."""

from pipeline.study.executors.executor import Executor
from pipeline.study.executors.in_process import InProcessExecutor
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.executors.worker_processes import WorkerProcessExecutor
from pipeline.study.request import StudyRequest


def select_executor(request: StudyRequest, jobs: int, pool: ReusablePool, in_process: bool) -> Executor:
    """Return the executor of a study.

    Parameters
    ----------
    request
        Names the executor, and the address of a Ray cluster.
    jobs
        Runs at once on this machine.
    pool
        Processes that may already be running. Ray starts its own, so that these are ended first.
    in_process
        True to use no other process at all.
    """
    if in_process:
        return InProcessExecutor()
    if request.executor == "ray":
        from pipeline.study.executors.ray import RayExecutor

        pool.close()
        return RayExecutor(jobs, request.address)
    return WorkerProcessExecutor(pool, jobs)
