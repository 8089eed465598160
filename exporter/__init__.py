"""Prometheus exporter for CAVATICA's bulk export jobs."""

__version__ = "0.1.0"
