"""Tests of `exporter.watchlist`."""
