"""Preprocessing: from texts and images to a model's inputs."""
