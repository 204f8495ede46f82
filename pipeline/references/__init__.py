"""Checks of the reference labels against the predictions of all losses."""
