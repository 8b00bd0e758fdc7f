"""Layers that run what was written for one framework; what touches it lies in its backend."""
