"""Text conditioning and guidance formulas."""
