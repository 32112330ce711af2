"""A page on a site that may be handed out: counts, small ones hidden."""
