"""Weights and whole models as files."""
