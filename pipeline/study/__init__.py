"""Studies: train every loss on every fold with every seed, and compare the results.

`run` carries out a study from a `request`; `creation` and `continuation` write its record; `executors` carry out the
runs and retry those whose worker was lost.
"""
