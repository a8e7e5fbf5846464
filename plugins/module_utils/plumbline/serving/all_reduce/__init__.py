"""The serving runtime's own all-reduce, measured as decoding runs it: which groups, how they are started, what came of it."""
