"""Preprocessing of texts and images to the inputs of models."""
