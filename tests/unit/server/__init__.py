"""Tests of `exporter.server`."""
