"""The network, its number format and its predictions, shared by training and inference."""
