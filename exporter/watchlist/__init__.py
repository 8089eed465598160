"""The watchlist: which exports are watched, read from the ID files."""
