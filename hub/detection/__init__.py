"""Detection of objects: training targets, losses, metrics, results and pictures of them."""
