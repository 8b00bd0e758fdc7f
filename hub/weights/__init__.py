"""Names, storage and readers of checkpoints' tensors."""
