"""What `evaluate` is made of: held-out scenes, pictures kept on disk, figures, the written report."""
