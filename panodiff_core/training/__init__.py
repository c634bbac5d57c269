"""Training: one loop for every engine, and one recipe for each model that PanoDiff ships."""
