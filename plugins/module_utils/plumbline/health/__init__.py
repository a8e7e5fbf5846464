"""Whether a node is fit to serve: evidence gathered on it, and the checks that judge it."""
