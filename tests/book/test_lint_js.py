"""The linter of the explorables finds what it should, and says why where it cannot run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

import lint_js


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_npm_it_is_skipped_aloud_and_refused_in_ci(monkeypatch, capsys, ci, code):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(lint_js.sys, "argv", ["lint_js.py"])
    monkeypatch.setenv("CI", ci)
    assert lint_js.main() == code
    assert "npm is not installed" in capsys.readouterr().out


def test_what_a_tool_has_made_is_not_laid_out():
    hand = lint_js.written_by_hand()
    assert "book/_static/explorables/common.js" in hand
    assert not {"sprites.js", "tower_weights.js"} & {path.rsplit("/", 1)[1] for path in hand}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("const unused = 1;", "no-unused-vars"),
        ("export const a = missing;", "no-undef"),
        ("let a = 1;\nexport const b = a;", "prefer-const"),
        ("export const a = (b) => b == 1;", "eqeqeq"),
        (f"export const a = '{'x' * 120}';", "max-len"),
        ("export function a() {\n" + "  a();\n" * 70 + "}", "max-lines-per-function"),
    ],
)
def test_the_rules_find_their_faults(text, rule):
    if reason := lint_js.install():
        pytest.skip(reason)
    program = lint_js.INSTALLED / "node_modules" / ".bin" / "eslint"
    config = str(lint_js.RULES / "eslint.config.mjs")
    name = "book/_static/explorables/fault.js"  # a name that its rules are for; no such file
    command = [str(program), "--config", config, "--stdin", "--stdin-filename", name]
    run = subprocess.run(command, cwd=lint_js.ROOT, input=text, capture_output=True, text=True)
    assert run.returncode == 1 and rule in run.stdout
