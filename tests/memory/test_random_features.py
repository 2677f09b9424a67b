"""Laws of random features, and of the memory that holds nothing but their sum."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.testing import assert_close

from amtutor import _weights
from amtutor.memory.dense import lse_energy, lse_gradient, nearest
from amtutor.memory.random_features import (
    DistributedDenseAM,
    PositiveFeatures,
    TrigonometricFeatures,
)

FAMILIES = {
    "pairs": lambda dim, n, **how: TrigonometricFeatures(dim, n, **how),
    "phases": lambda dim, n, **how: TrigonometricFeatures(dim, n, phases=True, **how),
    "positive": lambda dim, n, **how: PositiveFeatures(dim, n, **how),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
angles = pytest.mark.parametrize("orthogonal", [False, True])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Moments of exponentials settle slowly; where a test measures some, the points are short.
SHORT = {"pairs": 1.0, "phases": 1.0, "positive": 0.5}


def points(family, dim=3):
    """Pairs of points near each other, apart, and on either side of the origin."""
    x = 0.5 * draw(6, dim)
    y = torch.stack([0.9 * x[0], x[1] + 0.2, -x[2] + 0.2, 0.5 * x[3], x[4] - 0.6, 2 * x[5]])
    return SHORT[family] * x, SHORT[family] * y


def gaussian(x, y):
    return torch.exp(-0.5 * (x - y).square().sum(-1))


def exact_sums(x, memories, beta):
    return torch.exp(-0.5 * beta * torch.cdist(x, memories).square()).sum(-1)


def by_frequency(features, x, y):
    """What each frequency says of the kernel, (pairs, Y): its parts of the inner product, times Y.

    The definition, typed again.
    """
    omega, offsets, y_count = features.frequencies().double(), features.offsets, features.n_features
    a, b = x @ omega.T, y @ omega.T
    if isinstance(features, PositiveFeatures):
        lengths = x.square().sum(-1) + y.square().sum(-1)
        parts = torch.exp(a + b - lengths[:, None])
    elif features.phases:
        parts = 2 * torch.cos(a + offsets) * torch.cos(b + offsets)
    else:
        parts = a.cos() * b.cos() + a.sin() * b.sin()
    assert parts.shape == (len(x), y_count)
    return parts


# ------------------------------------------------------------------ frequencies


@angles
def test_frequencies_are_a_function_of_the_seed_and_may_be_drawn_again(orthogonal):
    make = lambda n, seed=3, **how: TrigonometricFeatures(  # noqa: E731
        5, n, seed=seed, orthogonal=orthogonal, **how
    ).frequencies()
    assert torch.equal(make(2500), make(2500, stored=False))
    assert torch.equal(make(2500)[:1500], make(1500))
    assert not torch.equal(make(10), make(10, seed=4))
    assert not torch.equal(make(10), make(10, seed=3 + 2**32))  # torch looks at 32 bits
    assert len(make(4000).unique(dim=0)) == 4000  # no block repeats another


@every_family
@angles
def test_stored_or_not_the_features_are_the_same(family, orthogonal):
    make = lambda stored: FAMILIES[family](3, 2100, orthogonal=orthogonal, stored=stored)  # noqa: E731
    x = draw(4, 3)
    assert torch.equal(make(True)(x), make(False)(x))
    assert not list(make(False).buffers())


def test_orthogonal_frequencies_stand_at_right_angles_and_each_is_normal():
    dim, n = 4, 40_000
    omega = TrigonometricFeatures(dim, n, orthogonal=True).frequencies().double()
    groups = omega.reshape(-1, dim, dim)
    crossed = groups @ groups.mT - torch.diag_embed(groups.square().sum(-1))
    assert crossed.abs().max() < 1e-4
    # a coordinate has mean 0, variance 1 and fourth moment 3, each within 4 of its own spreads
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        found = (omega**power).mean(0)
        assert ((found - mean).abs() < 4 * math.sqrt(variance / n)).all()
    lengths = omega.square().sum(-1).reshape(-1, dim)  # chi-squares of D, independent
    assert abs(float(lengths.mean()) - dim) < 4 * math.sqrt(2 * dim / n)
    assert abs(float(torch.corrcoef(lengths.T)[0, 1])) < 4 / math.sqrt(n / dim)


# ------------------------------------------------------------------ the kernel


@every_family
@angles
def test_features_and_kernel_equal_their_definition(family, orthogonal):
    features = FAMILIES[family](3, 50, orthogonal=orthogonal, seed=1)
    x, y = points(family)
    parts = by_frequency(features, x, y)
    assert features(x).shape == (6, features.size)
    assert_close(features.kernel(x, y), parts.mean(-1), rtol=1e-12, atol=1e-12)
    assert_close((features(x) * features(y)).sum(-1), features.kernel(x, y))
    assert features(x.reshape(2, 3, 3)).shape == (2, 3, features.size)


@every_family
@angles
def test_the_kernel_is_right_on_average(family, orthogonal):
    """Within four of the spreads that the variance formula promises for so many frequencies."""
    x, y = points(family)
    features = FAMILIES[family](3, 300_000, orthogonal=orthogonal, seed=2)
    off = features.kernel(x, y) - gaussian(x, y)
    assert (off.abs() <= 4 * features.variance(x, y).sqrt() + 1e-12).all()
    assert (features.variance(x, y) <= 1e-3).all()


@every_family
@angles
def test_the_variance_equals_its_formula(family, orthogonal):
    """Over groups of D frequencies, which are independent; the spread from the fourth moment."""
    dim, x, y = 3, *points(family)
    features = FAMILIES[family](dim, 300_000, orthogonal=orthogonal, seed=5)
    means = by_frequency(features, x, y).reshape(6, -1, dim).mean(-1)
    off = (means - gaussian(x, y)[:, None]).square()
    found, spread = off.mean(-1), off.std(-1) / math.sqrt(off.shape[1])
    one_group = FAMILIES[family](dim, dim, orthogonal=orthogonal)
    promised = one_group.variance(x, y)
    assert (promised[1:] > 1e-4).all()
    assert ((found - promised).abs() <= 4 * spread + 1e-12).all()
    many = FAMILIES[family](dim, 7 * dim, orthogonal=orthogonal)
    assert_close(many.variance(x, y), promised / 7)


def test_a_last_group_that_is_not_full_is_counted():
    x, y = points("pairs")
    part = lambda n: TrigonometricFeatures(3, n, orthogonal=True).variance(x, y)  # noqa: E731
    assert_close(25 * part(5), 9 * part(3) + 4 * part(2))
    assert_close(part(1), TrigonometricFeatures(3, 1).variance(x, y))


def test_right_angles_help_where_theory_says_so():
    def gain(make, x, y):  # variance with right angles, over that without
        dim = x.shape[-1]
        plain = make(dim, dim).variance(x, y)
        return make(dim, dim, orthogonal=True).variance(x, y) / plain

    for dim in (2, 3, 4, 16):
        x, y = draw(50, dim), draw(50, dim, seed=1)
        assert (gain(FAMILIES["positive"], 0.5 * x, 0.5 * y) < 1).all()
        near = 0.5 * (y - x) / math.sqrt(dim)
        assert (gain(FAMILIES["pairs"], x, x + near) < 1).all()
    x = torch.zeros(1, 2, dtype=torch.float64)
    far = torch.linspace(0.1, 6, 50, dtype=torch.float64)[:, None] * torch.ones(2).double()
    assert (gain(FAMILIES["pairs"], x, far) < 1).all()
    # in four dimensions, far away, they do harm: 1 - u + u^2/6 > exp(-u) at u = 6
    x, y = torch.zeros(4).double(), torch.tensor([math.sqrt(12.0), 0, 0, 0]).double()
    assert gain(FAMILIES["pairs"], x, y) > 1
    both = TrigonometricFeatures(4, 4, orthogonal=True).variance(x, y)
    plain = TrigonometricFeatures(4, 4).variance(x, y)
    more = math.exp(-6) * (1 - 6 + 6) - math.exp(-12)
    assert_close(both - plain, torch.tensor(3 / 4 * more).double(), rtol=1e-6, atol=1e-12)


@every_family
def test_the_error_falls_as_the_root_of_Y(family):
    size = 0.5 * SHORT[family]
    x, y = size * draw(200, 4), size * draw(200, 4, seed=1)
    counts = [2**k for k in range(5, 14)]
    error = []
    for n in counts:
        off = [FAMILIES[family](4, n, seed=s).kernel(x, y) - gaussian(x, y) for s in range(20)]
        error.append(torch.stack(off).square().mean().sqrt().log())
    at = torch.tensor(counts).double().log()
    at = at - at.mean()
    slope = float((at * torch.stack(error)).sum() / at.square().sum())
    assert abs(slope + 0.5) <= 0.05


# ------------------------------------------------------------------ the memory


def memory_of(family, memories, n=400, beta=1.3, **how):
    made = DistributedDenseAM(FAMILIES[family](memories.shape[1], n, seed=7), beta=beta, **how)
    made.add(memories)
    return made


@every_family
def test_energy_and_sum_equal_their_definition(family):
    x, memories, centre, beta = 0.3 * draw(2, 5, 3), 0.4 * draw(6, 3, seed=1), draw(3, seed=2), 1.3
    memory = memory_of(family, memories + centre, beta=beta, centre=centre, floor=1e-6)
    phi = memory.features
    T = phi(math.sqrt(beta) * memories).sum(0)
    assert_close(memory.tensor, T, rtol=1e-12, atol=1e-12)
    direct = (phi(math.sqrt(beta) * x) * T).sum(-1)
    assert_close(memory.sums(x + centre), direct, rtol=1e-10, atol=1e-12)
    assert (direct > 1e-6).all()
    assert memory.energy(x + centre).shape == (2, 5)
    assert_close(memory.energy(x + centre), -direct.log() / beta, rtol=1e-9, atol=1e-12)


@every_family
@pytest.mark.parametrize("beta", [0.2, 4.0])
def test_beta_is_on_both_sides(family, beta):
    """Within five spreads of the exact sum at this beta; independent memories: variances add."""
    x, memories = 0.3 * draw(8, 2), 0.3 * draw(5, 2, seed=1)
    memory = memory_of(family, memories, n=200_000, beta=beta)
    scale = math.sqrt(beta)
    variance = memory.features.variance(scale * x[:, None], scale * memories)
    bound = 5 * variance.sqrt().sum(-1)  # a sum's spread is at most the sum of spreads
    exact = exact_sums(x, memories, beta)
    assert ((memory.sums(x) - exact).abs() <= bound).all()
    assert (bound < 0.1 * exact).all()
    assert (memory.energy(x) - lse_energy(x, memories, beta=beta)).abs().max() < 0.1 / beta
    slopes = lse_gradient(x, memories, beta=beta)
    assert (memory.gradient(x) - slopes).norm() < 0.1 * slopes.norm()


@every_family
def test_gradient_equals_automatic_differentiation(family):
    x = (0.4 * draw(3, 5, 7)).requires_grad_()
    memory = memory_of(family, 0.4 * draw(4, 7, seed=1), beta=0.8, floor=0.5)
    (auto,) = torch.autograd.grad(memory.energy(x).sum(), x)
    assert auto.abs().max() > 0.1
    assert_close(memory.gradient(x), auto, rtol=1e-9, atol=1e-10)
    with torch.inference_mode():
        assert_close(memory.gradient(x.detach().clone()), auto, rtol=1e-9, atol=1e-10)


@every_family
@pytest.mark.parametrize("stored", [True, False])
def test_a_batch_is_a_loop_and_pieces_do_not_show(family, stored):
    x = 0.4 * draw(300, 2)
    features = FAMILIES[family](2, 1500, stored=stored)
    memory = DistributedDenseAM(features, beta=1.0)
    memory.add(0.4 * draw(600, 2, seed=1))
    again = DistributedDenseAM(features, beta=1.0)
    for one in draw(600, 2, seed=1).split(100):
        again.add(0.4 * one)
    assert again.n_memories == 600
    assert_close(memory.tensor, again.tensor, rtol=1e-11, atol=1e-11)
    for ask in (memory.energy, memory.gradient):
        assert_close(ask(x)[[0, 255, 256]], torch.stack([ask(x[i]) for i in (0, 255, 256)]))


@every_family
def test_what_is_removed_was_never_there(family):
    stays, goes = draw(20, 3), draw(30, 3, seed=1)
    memory, alone = memory_of(family, stays), memory_of(family, stays)
    memory.add(goes)
    between = (memory.tensor - alone.tensor).abs().max()
    memory.remove(goes.flip(0))
    assert between > 0.1
    assert_close(memory.tensor, alone.tensor, rtol=0, atol=1e-12 * float(between + 1))
    assert memory.n_memories == 20
    with pytest.raises(ValueError, match=r"^memories: got 21 to remove, expected at most 20"):
        memory.remove(draw(21, 3))


@every_family
def test_two_memories_merge_by_adding(family):
    a, b = draw(20, 3), draw(30, 3, seed=1)
    one, other = memory_of(family, a, floor=0.1), memory_of(family, b, floor=0.1)
    both, merged = memory_of(family, torch.cat([a, b]), floor=0.1), one.merge(other)
    assert torch.equal(merged.tensor, one.tensor + other.tensor)
    assert_close(merged.tensor, both.tensor, rtol=1e-12, atol=1e-12)
    assert merged.n_memories == 50 and merged.floor == 0.1 and one.n_memories == 20


def test_only_memories_of_one_kind_merge():
    a = draw(4, 3)
    one = memory_of("pairs", a)
    others = {
        "phases = True": memory_of("phases", a),
        "features = positive": memory_of("positive", a),
        "beta = 2.0": memory_of("pairs", a, beta=2.0),
        "n_features = 401": memory_of("pairs", a, n=401),
        "another centre": memory_of("pairs", a, centre=draw(3)),
        "floor = 0.5": memory_of("pairs", a, floor=0.5),
    }
    for words, other in others.items():
        with pytest.raises(ValueError, match=f"^other: has {words}.*, expected what this"):
            one.merge(other)


# ------------------------------------------------------------------ noise and floor


@pytest.mark.parametrize("family", ["pairs", "phases"])
def test_noise_is_the_width_of_the_sum_far_from_everything(family):
    """Over far states, whose angles are random; within four spreads of a variance of so many."""
    memory = memory_of(family, 0.1 * draw(50, 3), n=300)
    far = 300 * draw(4000, 3, seed=9)
    off = memory.sums(far)
    found, spread = off.square().mean(), off.square().std() / math.sqrt(len(off))
    assert abs(float(found) - memory.noise**2) < 4 * float(spread)
    assert memory.noise > 0.5


def test_noise_of_many_strangers_is_the_root_of_K_over_2Y():
    """T is a sum of K vectors of length 1 that hardly overlap."""
    k, y = 900, 300
    memory = memory_of("pairs", 40 * draw(k, 3), n=y)
    assert abs(memory.noise**2 / (k / (2 * y)) - 1) < 4 * math.sqrt(2 / y)
    assert memory_of("positive", draw(4, 3)).noise == 0


def test_below_the_floor_it_is_flat():
    memory = memory_of("pairs", draw(5, 3), n=50, beta=2.0)
    x = torch.cat([draw(5, 3), 50 * draw(200, 3, seed=4)])
    sums, floor = memory.sums(x), memory.noise
    low = sums <= floor
    assert 20 < int(low.sum()) < 205 and (sums < 0).any() and not low[:5].any()
    flat = torch.full_like(sums[low], -math.log(floor) / 2)
    assert_close(memory.energy(x)[low], flat)
    assert (memory.gradient(x)[low] == 0).all() and (memory.gradient(x)[~low] != 0).any(-1).all()
    run = memory.recall(x[low], steps=3, tol=1e-3)
    assert torch.equal(run.state, x[low]) and not run.converged.any()
    bare = memory_of("pairs", draw(5, 3), n=50, beta=2.0, floor=0)
    assert torch.equal(bare.energy(x) == torch.inf, sums <= 0)
    assert (bare.gradient(x)[sums <= 0] == 0).all()


def test_positive_sums_keep_their_logarithm_where_numbers_end():
    """Exponents of -150 are nothing in float32 and no number in a product of two."""
    memories = torch.tensor([[12.0, 0.0], [0.0, -12.0]])
    memory = DistributedDenseAM(PositiveFeatures(2, 2000, seed=1), beta=1.0)
    memory.add(memories)
    x = memories + 0.5
    in64 = DistributedDenseAM(PositiveFeatures(2, 2000, seed=1), beta=1.0)
    in64.add(memories.double())
    assert memory.energy(x).isfinite().all() and memory.gradient(x).isfinite().all()
    assert_close(memory.energy(x).double(), in64.energy(x.double()), rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------------ recall, places, files


def test_recall_finds_what_was_stored_and_lowers_the_energy():
    memories = 4 * draw(10, 5, dtype=torch.float32)
    memory = DistributedDenseAM.of(memories, TrigonometricFeatures(5, 4000), beta=1.0)
    cue = memories + 0.4 * draw(10, 5, seed=1, dtype=torch.float32)
    run = memory.recall(cue, steps=60, record=True)
    assert torch.equal(nearest(run.state, memories), torch.arange(10))
    assert (run.energy < memory.energy(cue)).all()
    held = torch.zeros(5, dtype=torch.bool)
    held[0] = True
    assert torch.equal(memory.recall(cue, steps=5, clamp=held).state[:, 0], cue[:, 0])


@every_family
def test_far_from_the_origin_it_is_as_exact_as_near(family):
    far = 10_000 * torch.ones(3)
    memories, x = draw(6, 3, dtype=torch.float32) + far, draw(4, 3, seed=1).float() + far
    make = lambda kind: DistributedDenseAM.of(memories.to(kind), FAMILIES[family](3, 500), beta=0.5)  # noqa: E731
    in32, in64 = make(torch.float32), make(torch.float64)
    assert_close(in32.sums(x).double(), in64.sums(x.double()), rtol=1e-4, atol=1e-4)


@every_family
def test_saved_and_loaded_it_is_the_same(family, tmp_path):
    memories = 0.5 * draw(6, 3)
    memory = memory_of(family, memories, centre=memories.mean(0), floor=0.25)
    path = tmp_path / "all.safetensors"
    memory.save(path)
    for stored in (True, False):
        again = DistributedDenseAM.load(path, stored=stored)
        assert torch.equal(again.energy(memories), memory.energy(memories))
        assert again.n_memories == 6 and again.features.stored == stored
    card = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert card["kind"] == "distributed memory" and card["config"]["beta"] == memory.beta
    assert path.stat().st_size < 8 * memory.features.size + 1500


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match=r"^path: .*x\.safetensors is no file, expected"):
        DistributedDenseAM.load(path)
    _weights.ship(path, {"memories": draw(2, 3)}, kind="prototypes")
    with pytest.raises(ValueError, match=r"^path: .*expected a distributed memory"):
        DistributedDenseAM.load(path)
    memory = memory_of("pairs", draw(4, 3))
    memory.save(path)
    tensors, metadata = _weights.read_with_metadata(path)
    tensors["probe"] = tensors["probe"] + 0.1
    path.write_bytes(b"".join(_weights.to_safetensors(tensors, metadata)))
    with pytest.raises(ValueError, match=r"expected frequencies that this torch .* draws"):
        DistributedDenseAM.load(path)


def test_it_moves_and_is_saved_as_a_module():
    memory = memory_of("pairs", draw(4, 3))
    assert set(memory.state_dict()) == {"tensor", "centre", "count"}
    other = DistributedDenseAM(TrigonometricFeatures(3, 400, seed=7), beta=1.3)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.energy(draw(2, 3)), memory.energy(draw(2, 3)))
    before = memory.tensor.clone()
    assert torch.equal(memory.float().tensor, before)  # rounding would not come out again
    assert "n_memories=4" in repr(memory) and "Y=400" in repr(memory)


def test_an_empty_memory_has_nothing_to_say():
    memory = DistributedDenseAM(PositiveFeatures(3, 10), beta=1.0)
    with pytest.raises(ValueError, match=r"^x: asks an empty memory, expected memories"):
        memory.energy(draw(2, 3))
    with pytest.raises(TypeError, match=r"^features: got a int 5, expected TrigonometricFeatures"):
        DistributedDenseAM(5, beta=1.0)
    with pytest.raises(ValueError, match=r"^features: .*expected some of dim 4"):
        DistributedDenseAM.of(draw(2, 4), PositiveFeatures(3, 10), beta=1.0)


@every_family
def test_nothing_that_is_no_number_is_taken_for_the_floor(family):
    memory, bad = memory_of(family, draw(4, 3), floor=0.1), draw(2, 3)
    bad[0] = torch.nan
    for ask in (memory.energy, memory.gradient, memory.sums):
        with pytest.raises(ValueError, match=r"^x: 3 of 6 entries are NaN"):
            ask(bad)
