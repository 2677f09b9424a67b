"""Hand-scheduled twins of plain functions: the same answers, sooner.

Nothing here is needed to understand the library. Each room equals its plain form by test, and is
entered only where the caller asks for it, as in ``memory.recall(query, fast=True)``.
"""
