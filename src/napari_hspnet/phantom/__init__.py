"""Synthetic cervical slides with known truth."""
