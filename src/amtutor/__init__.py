"""Associative memory as energy descent: the library of the amtutor book."""

__version__ = "0.1.0"
