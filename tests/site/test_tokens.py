"""The tokens in the page are the library's Energy Transformer block with three numbers a token."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor.network.energy_transformer import EnergyTransformerBlock

EXPLORABLE = "tokens"


def plane() -> torch.Tensor:
    """Two directions without a mean: what layer norm leaves of three numbers."""
    rows = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def twin(settings: dict, memories: list) -> EnergyTransformerBlock:
    block = EnergyTransformerBlock(
        3,
        n_heads=1,
        head_dim=2,
        n_memories=3,
        beta=settings["beta"],
        exclude_self=settings["self"] == "no",
        bias=False,
        eps=1e-30,
    )
    block = block.double().requires_grad_(False)
    block.attention.W_query[0] = block.attention.W_key[0] = plane()
    block.hopfield.memories.copy_(torch.tensor(memories, dtype=torch.float64) @ plane())
    return block


@pytest.mark.parametrize("seed", range(12))
def test_energies_and_steps_are_the_librarys(module, seed):
    g = torch.Generator().manual_seed(seed)
    a, m, beta = (torch.rand(3, generator=g, dtype=torch.float64) * 3 + 0.1).tolist()
    settings = {"a": a, "m": m, "beta": beta, "self": ["no", "yes"][seed % 2]}
    flat = 2 * torch.randn(12, 2, generator=g, dtype=torch.float64)
    block = twin(settings, module.evaluate("T.memories()"))
    x = flat @ plane() + torch.randn(12, 1, generator=g, dtype=torch.float64)  # any mean will do
    g_hat = block.norm.activation(x)

    found = module.evaluate("([x, s]) => T.energies(x, s)", [flat.tolist(), settings])
    assert found["attention"] == pytest.approx(a * float(block.attention.energy(g_hat)), abs=1e-9)
    assert found["memory"] == pytest.approx(m * float(block.hopfield.energy(g_hat)), abs=1e-9)
    assert found["total"] == pytest.approx(found["attention"] + found["memory"], abs=1e-9)
    slope = a * block.attention.gradient(g_hat) + m * block.hopfield.gradient(g_hat)
    stepped = module.evaluate("([x, s]) => T.step(x, s, 0.1)", [flat.tolist(), settings])
    assert torch.allclose(torch.tensor(stepped, dtype=torch.float64), (x - 0.1 * slope) @ plane().T)


def test_the_energy_never_rises(module):
    code = """() => [0, 0.5, 1, 2].flatMap((a) => [0, 1, 4].flatMap((m) =>
        [0.1, 1, 6, 20].flatMap((beta) => ["no", "yes"].map((self) =>
            T.run(T.settingsFrom({a, m, beta, self})).rises))))"""
    assert set(module.evaluate(code)) == {0}


def say(module, **settings) -> list:
    return module.evaluate(
        "(s) => { const t = T.settingsFrom(s); return T.tell(T.run(t), t); }", settings
    )


def test_the_words_say_what_happened(module):
    assert say(module, m=0, beta=0.3)[0] == "One heap."
    assert say(module, a=0)[0] == "Each for itself."
    assert say(module, a=0, m=0)[0] == "Nothing moves."
    assert say(module, m=0, beta=20, self="yes")[0] == "They hardly move."
    assert "heaps" in say(module, m=0, beta=6)[0]


def test_answer_to_the_question_is_what_its_run_shows(module):
    """The question plays attention alone; its replies claim that the tokens pile up."""
    code = """() => { const s = T.settingsFrom({a: 1, m: 0, beta: 0.3, self: "no"});
        return T.heaps(T.run(s).states.at(-1)).map((h) => h.size); }"""
    assert module.evaluate(code) == [12]


def test_heaps_are_found_across_the_end_of_the_circle(module):
    angles = [355, 3, 11, 90, 180, 186]
    points = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]
    found = module.evaluate("(x) => T.heaps(x)", points)
    assert sorted((h["size"], h["at"]) for h in found if h["at"]) == [(1, "A")]
    assert sorted(h["size"] for h in found) == [1, 2, 3]


@pytest.mark.parametrize(
    "given", [{}, {"a": "9", "beta": "x"}, {"t": "1,2,3"}, {"self": "perhaps"}]
)
def test_settings_from_an_address_always_make_sense(module, given):
    settings = module.evaluate("(g) => T.settingsFrom(g)", given)
    assert settings["self"] == "no" and len(settings["t"]) == 12 and settings["a"] == 1


def test_keyboard_moves_a_token_and_reset_brings_it_back(stage):
    shown = stage("tokens").rest()
    before = shown.settings()["t"]
    shown.page.locator("[role=slider][aria-label^='Where token 1 ']").focus()
    shown.page.keyboard.press("ArrowUp")
    assert shown.settings()["t"][0] == (before[0] + 5) % 360
    shown.page.locator(".amx-reset").click()
    assert shown.settings()["t"] == before and not shown.wrong
    for width in (330, 1000):
        shown.page.set_viewport_size({"width": width, "height": 1400})
        shown.page.wait_for_timeout(100)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
