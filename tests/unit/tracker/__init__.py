"""Tests of `exporter.tracker`."""
