"""How fast the exporter is, and a naive one beside it: `make bench`."""
