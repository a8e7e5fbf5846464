"""What Azure is told and asked of a node: a fault, what becomes of it, and whether its instance may be taken away meanwhile."""
