"""All runs on one dataset: plan, executors and the MLflow mirror."""
