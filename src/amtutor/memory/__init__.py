"""Patterns with an energy: binary and continuous memories, and what is built on them."""
