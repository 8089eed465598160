"""A soak test: the exporter's process under faults, file edits and many scrapers, for any time.

`python -m tests.system.soak --help`. A seed repeats the faults and edits, but not which
scrapes they meet.
"""
