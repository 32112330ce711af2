"""AU-GAT-DSI: action-unit graph attention and dual-stream inception (design section 3)."""

from __future__ import annotations

from fedpsyau_model.network.au_gat_dsi import AuGatDsi, NetworkOutput, build_network

__all__ = ["AuGatDsi", "NetworkOutput", "build_network"]
