"""Text generation: samplers and decoding loops."""
