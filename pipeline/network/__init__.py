"""The network and its predictions, shared by training and inference."""
