"""Where a site's own priors come from: its label tables, its stores, a study; and their file."""
