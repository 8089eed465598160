"""System tests: the exporter as a whole, among faults, many exports and real servers."""
