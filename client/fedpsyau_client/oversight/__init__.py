"""What a site holds against the server: its policy, checks of every request, and the audit log."""
