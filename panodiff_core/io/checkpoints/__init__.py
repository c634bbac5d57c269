"""Weight files: opened by their headers, read one tensor at a time, put into a module strictly."""
