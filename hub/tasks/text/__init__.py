"""Tasks that read texts: classes, tokens, vectors, and texts that follow."""
