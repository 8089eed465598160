"""Tests of `exporter.cavatica`."""
