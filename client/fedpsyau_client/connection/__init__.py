"""The way to the server: the kit, the look at its door, the SuperNode, and its tasks."""
