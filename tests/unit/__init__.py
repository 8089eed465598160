"""Unit tests: a folder and a module for each one of the exporter."""
