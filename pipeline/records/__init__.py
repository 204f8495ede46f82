"""Typed values that cross packages, and the files of a study that hold them."""
