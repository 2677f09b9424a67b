"""The table of planted faults: each still fits the source, and no module is without one.

The faults themselves are planted by `make faults`, which takes an hour or so.
"""

from __future__ import annotations

import ast

import pytest

import faults

TABLE = faults.read_table()


@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name)
def test_every_fault_fits_the_source_once_and_can_be_read(fault):
    changed = fault.plant((faults.PACKAGE / fault.file).read_text("utf-8"))
    ast.parse(changed)
    assert fault.known_tests(), "none of its tests is there"
    for file, _, test in (known.partition("::") for known in fault.known_tests()):
        assert not test or f"def {test}(" in (faults.ROOT / file).read_text("utf-8"), test


def test_every_module_has_a_fault_and_every_fault_a_name_of_its_own():
    assert not set(faults.modules()) - {fault.file for fault in TABLE}
    assert len({fault.name for fault in TABLE}) == len(TABLE) >= 65


def test_a_text_that_is_not_there_once_is_said():
    fault = faults.Fault("slip", "a.py", "x + y", "x - y", ())
    assert fault.plant("z = x + y\n") == "z = x - y\n"
    for source, n in (("z = x\n", 0), ("x + y\nx + y\n", 2)):
        with pytest.raises(ValueError, match=f"slip: its old text occurs {n} times in a.py"):
            fault.plant(source)


def test_faults_are_chosen_by_parts_of_names_and_files():
    assert faults.chosen([]) == TABLE
    some = faults.chosen(["descent.py", "one-bad-row"])
    assert 1 < len(some) < 20 and all(f.file == "descent.py" or "row" in f.name for f in some)
    with pytest.raises(ValueError, match="nothing-like-it: no fault has it"):
        faults.chosen(["nothing-like-it"])
