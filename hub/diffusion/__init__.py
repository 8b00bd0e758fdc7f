"""Text-to-image pipelines of latent diffusion models."""
