"""One video: where a micro-expression is in it, what a model makes of it, and a page about it."""
