from tiny_bundles import bundle, copied, ensemble, python_without_pipeline, tiny_dataset, tiny_study

__all__ = ["bundle", "copied", "ensemble", "python_without_pipeline", "tiny_dataset", "tiny_study"]
