"""Memories that make new pictures."""
