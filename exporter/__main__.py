"""`python -m exporter`."""

from exporter.cli.command import main

main()
