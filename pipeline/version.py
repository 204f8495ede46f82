"""The version of whichloss, which records, reports and bundles carry."""

__version__ = "0.1.0"
