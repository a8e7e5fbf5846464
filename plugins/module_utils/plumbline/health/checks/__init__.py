"""The checks of a node's health: each module judges one subject, from evidence and expectations, and reads nothing."""
