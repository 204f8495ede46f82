"""Datasets in: layouts, integrity, fingerprint, plan, folds and phantoms."""
