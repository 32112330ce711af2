"""The report of a run: tables and plots from the counts in its folder."""
