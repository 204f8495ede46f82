"""How the records of a study become MLflow runs; MLflow is imported nowhere else."""
