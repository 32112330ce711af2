"""Psychological prior knowledge of which facial action units go together."""
