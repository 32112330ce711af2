"""What a site does in a round: its data, its network, its own state. Knows nothing of Flower."""
