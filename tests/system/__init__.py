"""System tests: the whole exporter with faults, many exports and real servers."""
