"""Tasks for images together with texts."""
