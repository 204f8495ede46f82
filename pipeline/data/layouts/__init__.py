"""Layouts of datasets on disk, one module for each."""
