"""Layers, losses and networks: torch only, no ids, frames or configuration."""
