"""Thin ComfyUI nodes over `panodiff_core`: sockets, widgets, placement and progress; the mathematics is in the core."""
