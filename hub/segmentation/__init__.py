"""Segmentation by prompts: their preparation, masks and their runs, filters, losses and results."""
