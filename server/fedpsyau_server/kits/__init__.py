"""Identity: the authority, the server's certificate, a key for every site, and who may come in."""
