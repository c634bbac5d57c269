"""STAR: text to cubemap, scale by scale."""
