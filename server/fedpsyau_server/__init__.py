"""The coordinator: strategies, personal models, the round loop and its run folder."""
