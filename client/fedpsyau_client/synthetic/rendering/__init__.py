"""The twin's second depth: frames of faces that move, to go through the whole preparation."""
