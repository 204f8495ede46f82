"""Trainers: what carries out a run, or has carried it out already."""
