"""Tests of `exporter.tool`."""
