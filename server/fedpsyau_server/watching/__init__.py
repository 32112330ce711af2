"""Watching a run: what its events add up to, whether it is well, and the page that says so."""
