"""Figures and the self-contained HTML page, from records alone."""
