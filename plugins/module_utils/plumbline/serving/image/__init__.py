"""The container image of a serving run: asked for by name and digest, brought by the node's engine, and proved."""
