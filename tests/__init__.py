"""The specification of the exporter, as tests."""
