"""One panel of metrics for each case and class."""
