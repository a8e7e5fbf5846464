"""vLLM and Ray: starting, watching and ending them, and reading what they say."""
