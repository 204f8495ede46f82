"""segloss: which loss for *your* 3D segmentation?"""

__version__ = "0.1.0"
