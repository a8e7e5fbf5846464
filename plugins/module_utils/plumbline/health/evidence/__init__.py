"""What a node shows about itself: each module reads one subject, parses its text once, and judges nothing."""
