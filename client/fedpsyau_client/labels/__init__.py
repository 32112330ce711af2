"""Label tables as their authors publish them, read into typed clip records."""
