"""Worlds, datasets and shards."""
