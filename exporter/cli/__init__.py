"""The command line: flags, logging, signals, and the wiring of everything else."""
