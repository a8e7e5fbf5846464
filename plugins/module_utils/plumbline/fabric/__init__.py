"""Collectives and links between GPUs and nodes: running, reading and judging them."""
