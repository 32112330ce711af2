"""What a site's kit holds: the names that the coordinator writes and the site reads."""

from __future__ import annotations

__all__ = ["AUTHORITY", "INSTRUCTIONS", "KIT_FILES", "SETTINGS", "SITE_KEY"]

#: Certificate of the authority that the server's certificate comes from.
AUTHORITY = "ca.crt"

#: The site's private key.
SITE_KEY = "site.key"

#: Settings of the client.
SETTINGS = "client.toml"

#: A page for the person who starts the client.
INSTRUCTIONS = "README.md"

#: Files that must be there; anything else in an archive is refused.
KIT_FILES = (AUTHORITY, SITE_KEY, SETTINGS)
