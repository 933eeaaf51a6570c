"""Tailrace runs pipelines over repositories and streams every line live."""

__version__ = "0.1.0"
