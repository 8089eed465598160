"""The exporter's process for as long as one likes, among faults, file edits and many scrapers.

`python -m tests.system.soak --help`. One seed draws the same faults and edits again; when they meet
which scrape is left to chance.
"""
