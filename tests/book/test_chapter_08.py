"""Chapter 8: what its table says, measured on the digits and the networks that ship."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from amtutor import data
from amtutor.generative import score_networks
from amtutor.generative.diffusion import VarianceExploding, empirical_score, probability_flow
from amtutor.generative.fields import asymmetry, line_energy
from amtutor.memory.dense import DenseAM, nearest

NOISE, T, END = VarianceExploding(), 100.0, 4e-4


@pytest.fixture(scope="module")
def digits():
    return data.split_digits("small")[0][0][:40].flatten(1)


@pytest.fixture(scope="module")
def scores(digits):
    return {
        "exact": lambda x, t: empirical_score(x, digits, process=NOISE, t=t),
        "free": score_networks.load("digits_40"),
        "tied": score_networks.load("digits_40_energy"),
    }


@pytest.fixture(scope="module")
def ends(scores):
    """Forty samples of each, at the end of time; all begin with the same pure noise."""
    start = NOISE.prior(40, 64, t=T, generator=torch.Generator().manual_seed(3))
    times = NOISE.times(T, END, steps=100)
    return {
        who: probability_flow(s, start, process=NOISE, times=times).state
        for who, s in scores.items()
    }


def test_the_networks_learned_these_digits(digits):
    for name in ("digits_40", "digits_40_energy"):
        assert (score_networks.stored_points(name) - digits).abs().max() < 1e-3  # float16


def test_f3_the_sampler_of_the_page_is_recall_while_the_memory_cools(digits, scores):
    start = NOISE.prior(30, 64, t=T, generator=torch.Generator().manual_seed(0))
    times = NOISE.times(T, END, steps=60)
    x = start
    for t, after in pairwise(times.tolist()):
        step = DenseAM(digits, beta=1 / t).recall(x, steps=1, step_size=1 - (after / t) ** 0.5)
        x = step.state
    flow = probability_flow(scores["exact"], start, process=NOISE, times=times, method="euler")
    assert (x - flow.state).abs().max() < 1e-3
    assert torch.cdist(x, digits).amin(1).max() < 0.5


def test_f4_past_the_end_the_free_network_moves_on_and_the_memory_rests(digits, scores, ends):
    moved, gap = {}, {}
    for who, s in scores.items():
        x = ends[who]
        for _ in range(600):
            x = x + 0.1 * END * s(x, END)
        moved[who] = float((x - ends[who]).norm(dim=1).median())
        before, after = (torch.cdist(z, digits).amin(1).median() for z in (ends[who], x))
        gap[who] = float(before), float(after)
    assert moved["exact"] < 0.3 and gap["exact"][1] < 1e-3
    assert moved["free"] > 1.5 * moved["tied"]
    assert gap["free"][1] < 0.5 * gap["free"][0]


def test_f5_undone_is_what_keeps_the_right_one_nearest(digits, scores):
    """Memory and exact sampler answer by distance, whatever spoilt the cue."""
    cold = DenseAM(digits, beta=1 / END)
    shape, clock = (8, 8), NOISE.times(0.1, END, steps=60)
    cues = {
        "grey": data.mask(digits, shape, fill=0.5),
        "white": data.mask(digits, shape, fill=0.0),
        "blur": data.blur(digits, shape, sigma=1.0),
    }
    hits = {}
    for what, cue in cues.items():
        answer = nearest(cold.recall(cue, steps=50).state, digits)
        assert torch.equal(answer, nearest(cue, digits))
        warm = probability_flow(scores["exact"], cue, process=NOISE, times=clock).state
        assert (nearest(warm, digits) != answer).sum() <= 2
        hits[what] = int((answer == torch.arange(40)).sum())
    assert hits["grey"] > 30 and hits["blur"] > 30 > 25 > hits["white"]


def test_f6_the_free_network_turns_and_its_energy_depends_on_the_way(digits, scores):
    x, _ = NOISE.perturb(digits[:20], t=0.1, generator=torch.Generator().manual_seed(7))
    turning, detour = {}, {}
    for who, s in scores.items():
        field = lambda z, s=s: s(z, 0.1)  # noqa: E731
        turning[who] = float(asymmetry(field, x).mean())
        a, b, c = digits[:5], digits[10:15], digits[20:25]
        straight = line_energy(field, b, a, panels=24).energy
        bent = line_energy(field, c, a, panels=24).energy
        bent = bent + line_energy(field, b, c, panels=24).energy
        detour[who] = float((straight - bent).abs().mean())
    assert turning["free"] > 0.05 and max(turning["exact"], turning["tied"]) < 1e-5
    assert detour["free"] > 0.5 and max(detour["exact"], detour["tied"]) < 0.01
