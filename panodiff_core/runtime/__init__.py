"""What every engine needs around its mathematics: errors, progress, placement and precision."""
