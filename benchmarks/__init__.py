"""Benchmarks of the exporter and of a naive one: `make bench`."""
