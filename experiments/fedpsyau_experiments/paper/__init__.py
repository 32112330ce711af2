"""The paper's comparisons, each planned, run cell by cell, tested and drawn."""
