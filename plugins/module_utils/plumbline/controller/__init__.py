"""What only the controller does: preflight, selection, verdicts and the report; it never travels to a node."""
