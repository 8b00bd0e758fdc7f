"""Tasks for texts: classification, embedding, masked and generative language models."""
