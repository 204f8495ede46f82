"""One run: preparation of cases, patch sampling, the training engine, the learning-rate search, and validation."""
