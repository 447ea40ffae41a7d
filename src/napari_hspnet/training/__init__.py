"""Training and losses."""
