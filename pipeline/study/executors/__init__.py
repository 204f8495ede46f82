"""The three ways to carry out the runs of a study, and their retries.

`in_process` carries out one run after the other in the calling process. `worker_processes` uses several processes of
this machine and continues after a process died or ran out of memory. `ray` uses the nodes of a Ray cluster and gives
a run whose worker or node was lost to another. `selection` chooses among them.
"""
