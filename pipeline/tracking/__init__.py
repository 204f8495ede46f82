"""The mirror of the records in MLflow. No other package imports MLflow, except for a bundle's registration.

`run_names` names the MLflow runs, `expected_runs` derives them from the records, `synchronization` brings a server to
that state, and `mirror` does so while a study continues.
"""
