"""MONAI bundles: exported from a study, checked as data, loaded for inference."""
