"""Twins of plain functions, by hand or compiled: the same answers, sooner. One door, four verbs.

===================================  ============================================================
``fast.recall(memory, state)``       `DiscreteDenseAM.recall`, the same bits
``fast.retrieve(memory, x)``         `DenseAM.recall` of an LSE memory
``fast.walk(block, x)``              `EnergyTransformerBlock`, trained or asked; compiled on a GPU
``fast.descend(ham, states)``        `HAM.descend`
===================================  ============================================================

Nothing here is needed to understand the library. Each equals its plain form by test, imports it,
and is never imported by it: the caller chooses.
"""

from amtutor.fast._descend import descend
from amtutor.fast._recall import recall
from amtutor.fast._retrieve import retrieve
from amtutor.fast._walk import walk

__all__ = ["descend", "recall", "retrieve", "walk"]
