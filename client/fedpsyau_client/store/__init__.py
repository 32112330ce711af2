"""Feature stores: what a site keeps of its clips, written whole and checked when opened."""
