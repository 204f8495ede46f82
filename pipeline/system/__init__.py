"""Atomic files, folder locks, worker pools, random streams and Ray: what every package may use."""
