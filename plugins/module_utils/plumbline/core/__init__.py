"""What every other package may use: the fact, files, processes, scrubbed text and statistics."""
