"""What the numbers of a run say, each finding with its arithmetic."""
