"""Tasks of recordings."""
