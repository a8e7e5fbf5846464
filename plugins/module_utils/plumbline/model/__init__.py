"""The model's files on every node, and the arithmetic of its shape."""
