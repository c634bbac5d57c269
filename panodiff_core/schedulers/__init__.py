"""Samplers and noise schedules written here rather than taken from a library."""
