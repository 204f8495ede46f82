"""Trained models over folders of images: a batch that no bad case stops."""
