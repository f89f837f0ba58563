"""Training data: checked on arrival, stored by content."""
