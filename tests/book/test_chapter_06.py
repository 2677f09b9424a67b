"""What chapter 6 claims (ledger D2 to D6), held apart from the chapter's own run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from amtutor import data
from amtutor.network import energy_transformer as et
from amtutor.network import lagrangians as lag
from amtutor.network import masked_images
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.train import load_preset

DOUBLE = torch.float64
ROOT = Path(__file__).resolve().parents[2]
COMPARISON = ROOT / "results" / "et-completion" / "comparison.json"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=DOUBLE)


@pytest.fixture(scope="module")
def model():
    return masked_images.load("et-completion")


@pytest.fixture(scope="module")
def unseen():
    """Pictures that the model has not learned from, and half of their squares hidden."""
    try:
        images = torch.from_numpy(data.cifar10("test")[0][:120]).float() / 255
    except data.DataNotFound:
        images = torch.from_numpy(data.photos()).float() / 255
    return images, masked_images.hide_patches(len(images), 64, 0.5, generator=generator(1))


def error(images, hidden, filled):
    off = masked_images.to_patches(filled - images, 4).square().mean(-1)
    return float(((off * hidden).sum(-1) / hidden.sum(-1)).mean())


# -- D2: layer norm and its Lagrangian -----------------------------------------------------------


@pytest.mark.parametrize("dim", [3, 7])
def test_d2_three_kinds_of_directions_three_eigenvalues(dim):
    gamma, eps, x = 1.3, 0.01, normal(dim)
    norm = lag.LayerNorm(gamma=gamma, eps=eps)
    s = float((x.var(correction=0) + eps).sqrt())
    jacobian = torch.func.jacrev(norm.activation)(x)
    one, off = torch.ones(dim, dtype=DOUBLE), x - x.mean()
    assert (jacobian @ one).abs().max() < 1e-12
    assert (jacobian @ off - gamma * eps / s**3 * off).abs().max() < 1e-12
    values = torch.linalg.eigvalsh(jacobian)
    assert (values[2:] - gamma / s).abs().max() < 1e-12 and values.min() > -1e-12


def test_d2_tokens_pay_next_to_nothing():
    x = normal(5, 16)
    norm = et.EnergyLayerNorm(16).double()
    s = (x.var(-1, correction=0) + 1e-5).sqrt()
    assert torch.allclose(norm.energy(x), -16e-5 * (1 / s).sum())


def test_d2_without_layer_norm_agreement_has_no_floor():
    talk = (
        et.EnergyAttention(8, n_heads=2, head_dim=4, generator=generator(3))
        .double()
        .requires_grad_(False)
    )
    norm, raw, seen = lag.LayerNorm(), normal(6, 8), normal(6, 8)
    for _ in range(120):
        raw = raw - 0.1 * talk.gradient(raw)
        seen = seen - 0.1 * talk.gradient(norm.activation(seen))
    assert talk.energy(raw) < -1e12
    # keys and queries of tokens of length sqrt(D) bound the energy from below
    longest = math.prod(float(torch.linalg.matrix_norm(w.flatten(0, 1), 2)) for w in
                        (talk.W_query, talk.W_key)) * 8  # fmt: skip
    assert talk.energy(norm.activation(seen)) > -2 * 6 * (longest + math.log(5) / talk.beta)


def test_d2_one_root_for_all_tokens_is_another_normalisation():
    def one_root(x):
        off = x - x.mean(-1, keepdim=True)
        return x.numel() * (off.square().mean() + 1e-5).sqrt()

    x = torch.tensor([[1.0, -1.0, 0.0], [30.0, -10.0, -20.0]], dtype=DOUBLE)
    for count, expected in ((1, 0.0), (2, 1.16)):
        gap = torch.func.grad(one_root)(x[:count]) - lag.LayerNorm().activation(x[:count])
        assert abs(float(gap.abs().max()) - expected) < 0.01


# -- D3: attention -------------------------------------------------------------------------------


def asymmetry(field, tokens):
    size = tokens.numel()
    jacobian = torch.func.jacrev(field)(tokens).reshape(size, size)
    return float((jacobian - jacobian.T).norm() / jacobian.norm())


def test_d3_standard_attention_is_no_gradient_and_both_halves_are():
    tokens = normal(5, 8)
    talk = (
        et.EnergyAttention(8, n_heads=2, head_dim=4, generator=generator(3))
        .double()
        .requires_grad_(False)
    )
    Wq, Wk = talk.W_query, talk.W_key
    Wv = normal(2, 4, 8, seed=9)

    def looks_for(g, values=Wk, back=Wq):
        p = talk.weights(g)
        return torch.einsum("hcb,bd,hyd,hye->ce", p, g, values, back)

    def is_wanted(g):
        return torch.einsum("hcb,cd,hyd,hye->be", talk.weights(g), g, Wq, Wk)

    assert asymmetry(lambda g: looks_for(g, Wv, normal(2, 4, 8, seed=8)), tokens) > 0.5
    assert asymmetry(looks_for, tokens) > 0.3
    both = looks_for(tokens) + is_wanted(tokens)
    assert (both + talk.gradient(tokens)).abs().max() < 1e-12
    assert asymmetry(lambda g: looks_for(g) + is_wanted(g), tokens) < 1e-12


def test_d3_three_tokens_by_hand():
    talk = et.EnergyAttention(2, n_heads=1, head_dim=2, beta=1.0).double().requires_grad_(False)
    for weight in (talk.W_query, talk.W_key):
        weight.copy_(torch.eye(2))
    apart, together = (
        torch.tensor(rows, dtype=DOUBLE)
        for rows in ([[1, 0], [0, 1], [-1, 0]], [[1, 0], [1, 0], [-1, 0]])
    )
    expected = -2 * math.log(1 + math.exp(-1)) - math.log(2)
    assert float(talk.energy(apart)) == pytest.approx(expected)
    expected = -2 * math.log(math.e + math.exp(-1)) - math.log(2 / math.e)
    assert float(talk.energy(together)) == pytest.approx(expected)


def test_d3_a_scale_for_each_number_is_no_gradient():
    tokens, scales = normal(5, 8), torch.linspace(0.5, 1.5, 8, dtype=DOUBLE)
    norm = lag.LayerNorm()
    assert asymmetry(norm.activation, tokens) < 1e-12
    assert asymmetry(lambda x: scales * norm.activation(x), tokens) > 0.1


def test_d3_a_token_that_may_looks_at_itself():
    like = et.EnergyAttention(
        64, n_heads=4, head_dim=16, beta=1.0, exclude_self=False, generator=generator()
    )
    with torch.no_grad():
        like.W_key.copy_(like.W_query)
        g = lag.LayerNorm().activation(torch.randn(20, 30, 64, generator=generator(1)))
        own = like.weights(g).diagonal(dim1=-2, dim2=-1)
    assert own.mean() > 0.9


def test_d3_one_asking_token_is_chapter_3():
    from amtutor.memory.dense import attention_energy

    memories, query = normal(7, 16), normal(16, seed=1)
    alone = -torch.logsumexp(0.5 * memories @ query, -1) / 0.5
    chapter3 = attention_energy(query, memories, beta=0.5) - 0.5 * query.square().sum()
    assert torch.allclose(alone, chapter3)


def test_d3_a_head_says_at_most_y_numbers(model):
    talk = model.block.attention
    sent = torch.einsum("hyd,hye->hde", talk.W_query, talk.W_key).double()
    assert (torch.linalg.matrix_rank(sent, rtol=1e-4) <= talk.W_query.shape[1]).all()


# -- D4: memories --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form, options, value, slope",
    [
        ("relu", {}, lambda h: 0.5 * h.relu() ** 2, lambda h: h.relu()),
        ("power", {"n": 4}, lambda h: h.relu() ** 4 / 4, lambda h: h.relu() ** 3),
        ("softmax", {"beta": 3.0}, None, lambda h: torch.softmax(3 * h, -1)),
    ],
)
def test_d4_three_forms_are_what_the_table_says(form, options, value, slope):
    network = et.HopfieldNetwork(
        6, n_memories=9, activation=form, generator=generator(), **options
    ).double()
    g = normal(4, 6)
    h = g @ network.memories.T
    each = value(h).sum(-1) if value else torch.logsumexp(3 * h, -1) / 3
    assert torch.allclose(network.energy(g), -each.sum())
    assert torch.allclose(network.gradient(g), -slope(h) @ network.memories)


# -- D5: the sum ---------------------------------------------------------------------------------


def test_d5_a_small_step_falls_by_what_the_equation_says():
    size = {"n_heads": 2, "head_dim": 4, "n_memories": 12, "generator": generator()}
    block = et.EnergyTransformerBlock(8, **size).double().requires_grad_(False)
    x, eta = normal(6, 8), 1e-6
    slope = block.gradient(block.norm.activation(x))
    bent = torch.func.jvp(block.norm.activation, (x,), (slope,))[1]
    each = -(slope * bent).sum(-1)  # one number for each token
    assert (each <= 0).all()
    energy = [block.energy(block.norm.activation(y)) for y in (x, x - eta * slope)]
    assert float((energy[1] - energy[0]) / eta) == pytest.approx(float(each.sum()), rel=1e-4)


def test_d5_energy_of_unseen_pictures_falls_at_every_step(model, unseen):
    walk = model.walk(*unseen, steps=6 * model.descent_steps).trajectory
    assert (walk.energies.diff(dim=0) < 0).all()


def test_d5_the_leak_turns_no_token():
    size = {"n_heads": 2, "head_dim": 4, "n_memories": 12, "bias": False, "generator": generator()}
    block = et.EnergyTransformerBlock(8, **size).double().requires_grad_(False)
    parts = [("tokens", block.attention), ("tokens", block.hopfield)]
    ham = HAM({"tokens": NeuronLayer(block.norm, (6, 8))}, parts)
    x = normal(6, 8)
    start = block.norm.activation(x)
    leaky = block.norm.activation(ham.step({"tokens": x}, step_size=1e-4)["tokens"]) - start
    plain = block.norm.activation(block(x, steps=1, step_size=1e-4)) - start
    assert (leaky - plain).abs().max() < 1e-3 * plain.abs().max()
    rest = ham.descend({"tokens": x}, steps=1500, step_size=0.02).state["tokens"]
    assert block(x, steps=1500, step_size=0.02).norm() > 2 * rest.norm()


def test_d5_opposites_climb_when_steps_are_long():
    rivals = (
        et.EnergyAttention(8, n_heads=2, head_dim=4, generator=generator())
        .double()
        .requires_grad_(False)
    )
    rivals.W_key.copy_(-rivals.W_query)
    norm, highest = lag.LayerNorm(), {}
    for step in (0.1, 10.0):
        x, seen = normal(100, 6, 8), []
        for _ in range(12):
            seen.append(rivals.energy(norm.activation(x)))
            x = x - step * rivals.gradient(norm.activation(x))
        highest[step] = float(torch.stack(seen).diff(dim=0).max())
    assert highest[0.1] < 0 < highest[10.0]


# -- D6: the trained model -----------------------------------------------------------------------


def test_d6_unseen_pictures_are_completed(model, unseen):
    images, hidden = unseen
    from amtutor.network.inpainting import mean_fill

    ours = error(images, hidden, model.complete(images, hidden))
    assert ours < 0.5 * error(images, hidden, mean_fill(images, hidden))


def test_d6_passing_is_good_and_staying_is_worse(model, unseen):
    images, hidden = unseen
    walk = model.walk(images, hidden, steps=6 * model.descent_steps).trajectory
    frames = model.frames(images, hidden, walk.states)
    course = [error(images, hidden, frame) for frame in frames]
    assert abs(course.index(min(course)) - model.descent_steps) <= 2
    assert course[-1] > 1.05 * course[model.descent_steps]


def test_d6_a_head_for_each_side(model, unseen):
    """Hidden squares ask seen ones first, and in the second step the squares beside them."""
    images, hidden = unseen
    path = model.block.descend(
        model.embed(images, hidden), steps=1, step_size=model.step_size, record=True
    ).trajectory
    to_seen = []
    for x in path.states:
        p = model.block.attention.weights(model.block.norm.activation(x))
        to_seen.append(float((p.mean(1) * ~hidden[:, None]).sum(-1)[hidden].mean()))
    assert to_seen[0] > 0.75 and abs(to_seen[1] - 0.5) < 0.1  # half of the squares are seen
    row, column = torch.arange(64) // 8, torch.arange(64) % 8
    beside = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs()) == 1
    look = p * hidden[:, None, :, None]
    assert (look * beside).sum() / look.sum() > 0.8
    favourite = []
    for head in range(p.shape[1]):
        reach = torch.zeros(15, 15)
        for c in range(64):
            reach[row - row[c] + 7, column - column[c] + 7] += look[:, head, c].sum(0)
        favourite.append(divmod(int(reach.argmax()), 15))
    assert set(favourite) <= {(6, 7), (8, 7), (7, 6), (7, 8)} and len(set(favourite)) >= 3


def test_d6_the_comparison_on_all_test_pictures():
    """Stored by tools/compare_completion.py; the cards of the weights say the same."""
    report = json.loads(COMPARISON.read_text("utf-8"))
    for share in (50, 75):
        table = report[f"{share} % hidden"]
        mse = {k: v.get("all_10000", v["first_1000"])["mse"] for k, v in table.items()}
        for name, key in (("et-completion", "energy"), ("transformer-completion", "plain")):
            card = masked_images.load(name).card["metrics"]
            assert card[f"test_mse_{share}"] == pytest.approx(mse[f"{key}_transformer"], abs=1e-6)
        assert mse["energy_transformer"] < 0.5 * mse["mean_fill"]
        assert mse["plain_transformer"] < mse["energy_transformer"]  # what wins, and by how little
        assert mse["energy_transformer"] < 1.15 * mse["plain_transformer"]


def test_d6_the_run_record_is_that_of_the_shipped_model(model):
    record = json.loads((COMPARISON.parent / "config.json").read_text("utf-8"))
    assert record["config"] == model.card["config"]
    preset = load_preset("et-completion").config.to_dict()
    assert preset == model.card["config"]
