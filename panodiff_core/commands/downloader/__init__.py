"""Fetching weights from a hub. Not in the archive of the ComfyUI registry (.comfyignore): nodes never download.

`hub` asks, `transfer` brings one file safely to its place, `job` does a list of them.
"""
