"""Equilibrium Matching: schedules, the target and its bowl, guidance, ways down."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from amtutor.generative import equilibrium as eq
from amtutor.generative.fields import asymmetry

DOUBLE = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def to_datum(datum):
    """The field of a lone datum on straight paths that start at distance ``reach`` from it."""

    def field(x, labels):
        away = x - datum
        rho = away.norm(dim=1, keepdim=True)
        return 4.0 * away / rho.clamp(min=1e-300) * REACH * (rho / (0.2 * REACH)).clamp(max=1)

    return field


REACH = 3.0

# ------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("name", eq.SCHEDULES)
def test_every_schedule_ends_at_zero_and_never_rises(name):
    gamma = torch.linspace(0, 1, 1001, dtype=DOUBLE)
    c = eq.SCHEDULES[name](gamma)
    assert c[-1].abs() < 1e-15 and (c >= 0).all() and (c.diff() <= 1e-12).all()
    assert (eq.SCHEDULES[name](gamma, scale=8.0) / 2 - c).abs().max() < 1e-12


def test_the_corner_of_the_truncated_decay_is_at_a():
    for a in (0.0, 0.3, 0.8):
        gamma = torch.tensor([a / 2, a, (1 + a) / 2], dtype=DOUBLE)
        assert torch.allclose(
            eq.truncated_decay(gamma, a=a, scale=2.0),
            torch.tensor([2.0 if a else 2.0, 2.0, 1.0], dtype=DOUBLE),
        )


def test_piecewise_meets_at_a():
    gamma = torch.tensor([0.0, 0.5, 0.5 + 1e-9, 0.75], dtype=DOUBLE)
    c = eq.piecewise_decay(gamma, a=0.5, start=3.0, scale=1.0)
    assert torch.allclose(c, torch.tensor([3.0, 1.0, 1.0, 0.5], dtype=DOUBLE), atol=1e-8)


# ------------------------------------------------------------------------------- the target


def test_the_target_is_the_formula_row_by_row():
    x, noise, gamma = normal(4, 2, 3), normal(4, 2, 3, seed=1), torch.rand(4, dtype=DOUBLE)
    place, wanted = eq.eqm_target(x, noise, gamma)
    for b in range(4):
        g = float(gamma[b])
        assert torch.allclose(place[b], g * x[b] + (1 - g) * noise[b])
        c = 4 * min(1.0, (1 - g) / 0.2)
        assert torch.allclose(wanted[b], c * (noise[b] - x[b]))


def test_it_points_from_data_to_noise():
    place, wanted = eq.eqm_target(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.5]))
    assert (wanted > 0).all()
    assert ((place - 0.01 * wanted).norm() < place.norm()).all()


def test_the_loss_is_a_mean_over_numbers_and_never_over_pictures():
    x, noise, gamma = normal(3, 2, 2), normal(3, 2, 2, seed=1), torch.rand(3, dtype=DOUBLE)

    def field(place, labels):
        return place * labels[:, None, None]

    labels = torch.tensor([0, 1, 2])
    together = eq.eqm_loss(field, x, noise, gamma, labels=labels)
    for b in range(3):
        one = slice(b, b + 1)
        alone = eq.eqm_loss(field, x[one], noise[one], gamma[one], labels=labels[one])
        place, wanted = eq.eqm_target(x[one], noise[one], gamma[one])
        assert torch.allclose(together[one], alone)
        assert torch.allclose(alone, (b * place - wanted).square().mean()[None])


def test_the_best_answer_is_the_mean_target_of_all_that_could_have_been():
    """Two data, one place: half of the squared distance between their targets is left."""
    x, gamma = torch.tensor([[1.0], [-1.0]], dtype=DOUBLE), torch.full((2,), 0.5, dtype=DOUBLE)
    noise = (torch.zeros(2, 1, dtype=DOUBLE) - 0.5 * x) / 0.5  # both paths pass 0
    _, wanted = eq.eqm_target(x, noise, gamma)
    values = torch.linspace(-9, 9, 181, dtype=DOUBLE)
    losses = [
        float(eq.eqm_loss(lambda p, y, v=v: v.expand_as(p), x, noise, gamma).mean()) for v in values
    ]
    assert abs(float(values[losses.index(min(losses))])) < 1e-9
    assert min(losses) == pytest.approx(float((wanted[0] - wanted[1]).square()) / 4)


# ------------------------------------------------------------------------------- the best field


def by_quadrature(z, points, schedule):
    """The mean target by SciPy's adaptive rule in gamma: the docstring's first formula."""

    def integral(of):
        # In D = 2, gamma to 1 is harmless unless z is a datum; the corner of c at 0.8 is told.
        return quad(of, 0, 1, points=[0.8], limit=400, epsabs=1e-13, epsrel=1e-12)[0]

    above, below = torch.zeros_like(z), 0.0
    for xi in points:

        def weight(g, xi=xi):
            gap = float((z - g * xi).square().sum())
            return (1 - g) ** -len(z) * math.exp(-0.5 * gap / (1 - g) ** 2) if g < 1 else 0.0

        def pull(g, weight=weight):
            c = float(schedule(torch.tensor(g, dtype=DOUBLE)))
            return weight(g) * c / (1 - g) if g < 1 else 0.0

        above, below = above + integral(pull) * (z - xi), below + integral(weight)
    return above / below


@pytest.mark.parametrize("name", eq.SCHEDULES)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_best_field_is_the_mean_target(name, dim):
    points, z = normal(4, dim), 1.5 * normal(6, dim, seed=1)
    c = eq.SCHEDULES[name]
    exact = torch.stack([by_quadrature(one, points, c) for one in z])
    corner = name in ("truncated", "piecewise")
    found = eq.best_field(z, points, schedule=c, nodes=2000 if corner else 64)
    # A corner in c between two nodes, h = O(1 / nodes) apart, costs O(h^2); without one, nothing.
    assert (found - exact).abs().max() < (1e-5 if corner else 1e-8) * exact.abs().max()


def test_twice_the_nodes_leave_a_quarter_of_a_corners_error():
    points, z = normal(5, 2), 1.5 * normal(200, 2, seed=1)
    right = eq.best_field(z, points, nodes=4096)
    size = right.norm(dim=1).max()
    errors = [
        float((eq.best_field(z, points, nodes=n) - right).norm(dim=1).max()) for n in (64, 256)
    ]
    assert errors[0] < 4e-3 * size  # (1 / 64 of a window of four)^2, at most
    assert errors[1] < errors[0] / 4  # 1 / 16 on average; where the corner falls is luck
    smooth = [eq.best_field(z, points, schedule=eq.cosine_decay, nodes=n) for n in (64, 128)]
    assert (smooth[0] - smooth[1]).abs().max() < 1e-9 * size


def test_the_best_field_is_what_chance_says():
    """Draw data and gamma, weigh each by how well it explains z: equal within 5 errors."""
    points, z = normal(3, 5), 0.7 * normal(1, 5, seed=1)
    g = torch.Generator().manual_seed(2)
    n = 200_000
    xi = points[torch.randint(3, (n,), generator=g)]
    gamma = torch.rand(n, 1, generator=g, dtype=DOUBLE)
    noise = (z - gamma * xi) / (1 - gamma)
    weight = (1 - gamma) ** -5 * torch.exp(-0.5 * noise.square().sum(1, keepdim=True))
    wanted = eq.truncated_decay(gamma) * (noise - xi)
    mean = (weight * wanted).sum(0) / weight.sum()
    error = (weight * (wanted - mean)).square().sum(0).sqrt() / weight.sum()
    assert ((eq.best_field(z, points)[0] - mean).abs() < 5 * error).all()


def test_no_field_has_a_lower_loss():
    """What is left of the target has nothing in common with any function of the place."""
    points = normal(4, 2)
    g = torch.Generator().manual_seed(3)
    n = 20_000
    x = points[torch.randint(4, (n,), generator=g)]
    noise, gamma = normal(n, 2, seed=4), torch.rand(n, generator=g, dtype=DOUBLE)
    place, wanted = eq.eqm_target(x, noise, gamma)
    left = wanted - eq.best_field(place, points)
    turned = torch.stack([-place[:, 1], place[:, 0]], 1)
    for other in (torch.ones_like(place), place, turned, place.sin(), place / (1 + place.norm())):
        products = (left * other).sum(1)
        assert products.mean().abs() < 5 * products.std() / math.sqrt(n)


def test_one_datum_is_met_head_on():
    datum, z = normal(1, 6), normal(9, 6, seed=1)
    field = eq.best_field(z, datum)
    away = z - datum
    assert torch.nn.functional.cosine_similarity(field, away).min() > 1 - 1e-12
    near = eq.best_field(datum + 1e-6 * away, datum)  # c / (1 - gamma) is lambda / (1 - a) there
    assert torch.allclose(near, 4 / 0.2 * 1e-6 * away, rtol=1e-4)
    assert (eq.best_field(datum, datum) == 0).all()


def test_the_best_field_of_many_is_that_of_each_and_knows_no_order():
    points, z = normal(5, 2, 3), normal(7, 2, 3, seed=1)
    together = eq.best_field(z, points)
    for b in range(7):
        assert torch.allclose(eq.best_field(z[b : b + 1], points)[0], together[b], rtol=1e-12)
    assert torch.allclose(eq.best_field(z, points[[3, 1, 4, 0, 2]]), together, rtol=1e-12)
    assert torch.allclose(eq.best_field(z, points.repeat(3, 1, 1)), together, rtol=1e-12)
    flat = eq.best_field(z.flatten(1), points.flatten(1)).view_as(z)
    assert torch.equal(flat, together)


def test_the_best_field_in_blocks_far_off_and_in_single_precision():
    points, z = normal(300, 200), normal(64, 200, seed=1)
    blocks = eq.best_field(z, points)  # 35 rows a block
    assert torch.allclose(blocks[50:51], eq.best_field(z[50:51], points), rtol=1e-10)
    single = eq.best_field(z.float(), points.float())
    assert single.dtype == torch.float32
    assert (single - blocks).abs().max() < 1e-5 * blocks.abs().max()
    for scale in (1e-200, 1e-30, 1e-12, 1e6):
        assert eq.best_field(scale * z, points[:3]).isfinite().all()


def test_the_best_field_can_be_differentiated():
    points, z = normal(3, 2), normal(4, 2, seed=1)
    assert torch.autograd.gradcheck(
        lambda z: eq.best_field(z, points, schedule=eq.cosine_decay), (z.requires_grad_(),)
    )


def test_the_best_field_of_two_data_turns():
    """It is no gradient; of one datum it is (everything is radial)."""
    z = normal(20, 2, seed=1)
    c = eq.linear_decay
    two = asymmetry(lambda z: eq.best_field(z, normal(3, 2), schedule=c), z)
    one = asymmetry(lambda z: eq.best_field(z, torch.zeros(1, 2, dtype=DOUBLE), schedule=c), z)
    assert two.max() > 1e-2 and one.max() < 1e-9


# ------------------------------------------------------------------------------- the bowl


@given(st.floats(0.0, 0.95), st.floats(0.1, 10), st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_the_gradient_of_the_bowl_is_the_target(a, scale, reach):
    gamma = torch.linspace(0, 1, 41, dtype=DOUBLE)
    rho = ((1 - gamma) * reach).requires_grad_()
    (slope,) = torch.autograd.grad(eq.bowl(rho, reach, a=a, scale=scale).sum(), rho)
    c = eq.truncated_decay(gamma, a=a, scale=scale)
    assert torch.allclose(slope, c * reach, rtol=1e-10, atol=1e-10)


def test_the_bowl_has_no_jump_where_parabola_and_cone_meet():
    edge = 0.2 * REACH
    around = torch.tensor([edge * (1 - 1e-9), edge, edge * (1 + 1e-9)], dtype=DOUBLE)
    assert eq.bowl(around, REACH).diff().abs().max() < 1e-7


@pytest.mark.parametrize("travel", [0.1, 0.2, 0.3, 0.4])
def test_only_the_sum_of_the_steps_decides_how_far_a_lone_datum_is_reached(travel):
    datum = normal(1, 6)
    start = datum + REACH * torch.nn.functional.normalize(normal(5, 6, seed=1), dim=1)
    left = []
    for steps in (500, 4000):
        end = eq.sample(to_datum(datum), start, steps=steps, step_size=travel / steps).state
        left.append((end - datum).norm(dim=1) / REACH)
    wanted = eq.noise_left(travel)
    # Euler's error is of the order of the step: (rate 20)^2 * travel * step / 2, relative
    for steps, found in zip((500, 4000), left, strict=True):
        assert (found / wanted - 1).abs().max() < 400 * travel * travel / steps


# ------------------------------------------------------------------------------- guidance


def test_the_two_conventions_are_one_number_apart_and_act_everywhere():
    def field(x, y):
        return x * (1 + y[:, None, None, None])

    x, labels = normal(2, 3, 2, 2), torch.tensor([1, 4])
    w = eq.guided_by_weight(field, 1.5, null=9)(x, labels)
    s = eq.guided_by_scale(field, 2.5, null=9)(x, labels)
    wanted = 2.5 * field(x, labels) - 1.5 * field(x, torch.full_like(labels, 9))
    assert torch.allclose(w, s) and torch.allclose(w, wanted)
    assert torch.equal(eq.guided_by_weight(field, 0, null=9)(x, labels), field(x, labels))
    plain = field(x, torch.full_like(labels, 9))
    assert torch.allclose(eq.guided_by_scale(field, 0, null=9)(x, labels), plain)


def test_guidance_of_gradients_is_the_gradient_of_a_difference_of_energies():
    def energy(x, y):
        return (x**2 * (1 + y[:, None])).sum(1) + x.prod(1)

    def field(x, y):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(energy(x, y).sum(), x)[0]

    x, labels, none = normal(3, 2), torch.tensor([0, 1, 2]), torch.tensor([5, 5, 5])
    x.requires_grad_()
    both = 2 * energy(x, labels) - energy(x, none)
    (wanted,) = torch.autograd.grad(both.sum(), x)
    assert torch.allclose(eq.guided_by_weight(field, 1.0, null=5)(x, labels), wanted)


# ------------------------------------------------------------------------------- ways down


def quadratic(x, labels):
    return x * torch.tensor([1.0, 9.0], dtype=DOUBLE)


def test_the_step_is_minus_eta_times_the_field():
    start = normal(4, 2)
    film = eq.sample(quadratic, start, steps=3, step_size=0.05, record=True).trajectory.states
    assert torch.equal(film[0], start)
    for now, then in zip(film[:-1], film[1:], strict=True):
        assert torch.allclose(then, now - 0.05 * quadratic(now, None), rtol=1e-15)


def test_nesterov_is_ten_plain_lines():
    start = normal(4, 2)
    x, v = start.clone(), torch.zeros_like(start)
    for _ in range(7):
        v = 0.6 * v - 0.05 * quadratic(x + 0.6 * v, None)
        x = x + v
    end = eq.sample_nesterov(quadratic, start, steps=7, step_size=0.05, momentum=0.6)
    assert torch.allclose(end.state, x)
    still = eq.sample_nesterov(quadratic, start, steps=7, step_size=0.05, momentum=0.0)
    assert torch.equal(still.state, eq.sample(quadratic, start, steps=7, step_size=0.05).state)


@pytest.mark.parametrize("go", [eq.sample, eq.sample_nesterov])
def test_each_picture_stops_by_itself_and_keeps_its_label(go):
    targets = torch.tensor([0.0, 5.0, -7.0], dtype=DOUBLE)

    def field(x, labels):
        return x - targets[labels][:, None]

    start, labels = (
        torch.tensor([[0.0], [1.0], [2.0], [0.001]], dtype=DOUBLE),
        torch.tensor([0, 1, 2, 0]),
    )
    how = {"steps": 400, "step_size": 0.1, "tol": 1e-2}
    together = go(field, start, labels=labels, **how)
    assert together.converged.all() and together.steps_taken[0] == together.steps_taken[3] == 0
    assert together.steps_taken[1] != together.steps_taken[2]
    for b in range(4):
        one = slice(b, b + 1)
        alone = go(field, start[one], labels=labels[one], **how)
        assert torch.equal(alone.state, together.state[one])
        assert torch.equal(alone.steps_taken, together.steps_taken[one])


def test_what_the_energy_of_the_result_is():
    start = normal(4, 2)
    end = eq.sample(quadratic, start, steps=2, step_size=0.05)
    slope = quadratic(end.state, None)
    assert torch.allclose(end.energy, 0.5 * slope.square().sum(1))

    def bowl(x, labels):
        return 0.5 * (x * quadratic(x, None)).sum(1)

    walk = eq.sample(quadratic, start, steps=50, step_size=0.05, energy=bowl, record=True)
    assert (walk.trajectory.energies.diff(dim=0) < 0).all()
    assert torch.equal(walk.energy, bowl(walk.state, None))


def test_the_start_is_left_alone_and_no_gradient_comes_out():
    start = normal(2, 2).requires_grad_()
    before = start.detach().clone()
    end = eq.sample(quadratic, start, steps=2, step_size=0.05, callback=lambda t, x: x.zero_())
    assert torch.equal(start.detach(), before) and not end.state.requires_grad
    assert end.state.abs().min() > 0  # the callback had a copy


def test_a_field_that_explodes_is_named():
    def field(x, labels):
        return torch.where(x > 50, math.nan, -10 * x)

    with pytest.raises(FloatingPointError, match="step [0-9]+ for picture 1"):
        eq.sample(field, torch.tensor([[0.0], [1.0]]), steps=50, step_size=0.1)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: eq.eqm_target(normal(2, 3), normal(2, 4), torch.rand(2)), "noise: .* shape of x"),
        (lambda: eq.truncated_decay(torch.tensor([1.5])), "gamma: got values .*1.5"),
        (lambda: eq.truncated_decay(torch.tensor([0.5]), a=1.0), "a = 1.0: expected"),
        (
            lambda: eq.sample(lambda x, y: x[:, :1], normal(2, 2)),
            "field: returned .*expected shape",
        ),
        (lambda: eq.sample(quadratic, normal(2, 2), labels=torch.zeros(3).long()), "labels: "),
        (
            lambda: eq.guided_by_scale(quadratic, 1.0, null=3)(normal(1, 2), None),
            "labels: got None",
        ),
        (lambda: eq.noise_left(-1.0), "travel = -1.0"),
    ],
)
def test_bad_input_gets_one_clear_line(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
