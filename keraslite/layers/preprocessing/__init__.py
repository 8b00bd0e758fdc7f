"""Preprocessing layers: numeric, and of images."""
