"""Inference with a bundle on a folder of images, DICOM studies or a list; one bad case never stops the others.

A reader starts at `case_steps` (what happens to one case), `batch` and `journal` (how a batch proceeds and continues),
`release_policy` (which results are held) and `ray_batch` (how a lost worker is replaced).
"""
