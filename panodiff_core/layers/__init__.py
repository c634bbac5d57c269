"""Building blocks that several engines share."""
