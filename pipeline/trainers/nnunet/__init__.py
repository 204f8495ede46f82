"""nnU-Net v2 as a trainer: its results as records of a study."""
