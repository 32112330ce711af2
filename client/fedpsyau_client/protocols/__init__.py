"""One machine, a site's own stores: honest protocols, paired comparison, pre-training."""
