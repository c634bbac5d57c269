"""Files: pictures with panorama metadata, self-contained viewer pages, all written atomically."""
