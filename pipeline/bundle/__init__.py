"""MONAI bundles: made of a study's verdict, checked as data, loaded for inference."""
