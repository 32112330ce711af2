"""AU-GAT-DSI and everything that server and sites must agree on. Imports nothing heavy itself."""

__version__ = "0.1.0"
