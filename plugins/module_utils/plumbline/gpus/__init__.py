"""Each GPU on its own, all at once: what it computes, how fast, and which of them is unlike the others."""
