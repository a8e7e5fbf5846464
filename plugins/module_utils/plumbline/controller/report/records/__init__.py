"""What the report reads out of a run's facts, as flat records."""
