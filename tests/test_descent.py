"""Laws of descent: rows are strangers, whoever has arrived rests, nothing infinite is followed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from amtutor.descent import descend, distinct


def bowl(x):
    """1/2 |x|^2: a gradient step of size eta multiplies x by 1 - eta."""
    return 0.5 * x.square().sum(-1)


def wells(x):
    """A double well in every coordinate, coupled by a sum: not convex."""
    return ((x**2 - 1) ** 2).sum(-1) + 0.1 * x.sum(-1) ** 2


def states(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ------------------------------------------------------------------ known answers


def test_quadratic_shrinks_by_one_minus_eta():
    x0 = states(3, 5)
    end = descend(bowl, x0, steps=7, step_size=0.25)
    assert_close(end.state, 0.75**7 * x0)
    assert_close(end.energy, bowl(end.state))
    assert end.steps_taken.tolist() == [7, 7, 7]
    assert end.converged.tolist() == [False, False, False]


def test_momentum_is_the_heavy_ball_recursion():
    x0 = states(2, 3)
    x, v = x0.clone(), torch.zeros_like(x0)
    for _ in range(9):
        v = 0.8 * v - 0.1 * x
        x = x + v
    assert_close(descend(bowl, x0, steps=9, step_size=0.1, momentum=0.8).state, x)


def test_steps_to_stop_follow_from_the_gradient_norm():
    # |x| halves with every step, so |x0| = 2^k * tol stops after exactly k steps.
    x0 = torch.tensor([[1.0, 0.0], [0.0, 8.0], [0.0, 0.0], [64.0, 0.0]])
    end = descend(bowl, x0, steps=50, step_size=0.5, tol=1.0)
    assert end.steps_taken.tolist() == [0, 3, 0, 6]
    assert end.converged.all()
    assert_close(end.state.norm(dim=-1), torch.tensor([1.0, 1.0, 0.0, 1.0]))


def test_running_out_of_steps_is_not_convergence_but_arriving_with_the_last_is():
    x0 = torch.tensor([[16.0], [8.0]])
    end = descend(bowl, x0, steps=3, step_size=0.5, tol=1.0)
    assert end.steps_taken.tolist() == [3, 3]
    assert end.converged.tolist() == [False, True]


def test_langevin_noise_reaches_the_stationary_variance():
    # x <- (1 - eta) x + s e has variance s^2 / (1 - (1 - eta)^2).
    rng = torch.Generator().manual_seed(3)
    end = descend(bowl, torch.zeros(20_000, 1), steps=60, step_size=0.2, noise=0.3, generator=rng)
    assert end.state.var().item() == pytest.approx(0.09 / (1 - 0.64), rel=0.05)


# ------------------------------------------------------------------ rows are strangers


def test_batch_equals_loop_with_stopping():
    x0 = states(6, 4)
    together = descend(wells, x0, steps=200, step_size=0.02, tol=1e-3)
    assert len(set(together.steps_taken.tolist())) > 1
    for i, row in enumerate(x0):
        alone = descend(wells, row, steps=200, step_size=0.02, tol=1e-3)
        assert_close(alone.state, together.state[i])
        assert alone.steps_taken == together.steps_taken[i]
        assert alone.energy.shape == alone.converged.shape == ()


def test_batch_of_two_dimensions_keeps_its_shape():
    x0 = states(2, 3, 4)
    end = descend(wells, x0, steps=300, step_size=0.02, tol=1e-3, record=True)
    flat = descend(wells, x0.reshape(6, 4), steps=300, step_size=0.02, tol=1e-3)
    assert end.energy.shape == end.steps_taken.shape == end.converged.shape == (2, 3)
    assert_close(end.state.reshape(6, 4), flat.state)
    most = int(end.steps_taken.max())
    assert end.trajectory.states.shape == (most + 1, 2, 3, 4)
    assert end.trajectory.energies.shape == (most + 1, 2, 3)


def test_finished_elements_cost_nothing_more():
    rows_seen = []

    def counting(x):
        rows_seen.append(x.shape[:-1].numel())
        return x

    x0 = torch.tensor([[1.0], [2.0], [64.0]])
    descend(bowl, x0, steps=50, step_size=0.5, gradient=counting, tol=1.0)
    assert rows_seen == [3, 2, 1, 1, 1, 1, 1]


def test_noise_of_a_row_does_not_depend_on_who_has_stopped():
    walk = {"steps": 8, "step_size": 0.1, "noise": 0.2}
    flat = torch.tensor([[0.0, 0.0], [30.0, 40.0]])
    hilly = torch.tensor([[9.0, 9.0], [30.0, 40.0]])
    rng = torch.Generator
    one = descend(bowl, flat, tol=0.5, generator=rng().manual_seed(1), **walk)
    two = descend(bowl, hilly, generator=rng().manual_seed(1), **walk)
    assert one.steps_taken.tolist() == [0, 8]
    assert torch.equal(one.state[1], two.state[1])


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("held", [False, True])
def test_what_belongs_to_a_row_stays_with_it_when_others_rest(momentum, held):
    """Each row has its own clamp and its own velocity, and the first rows rest first."""
    x0 = torch.cat([0.05 * states(2, 4), states(4, 4, seed=1)])
    clamp = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.4
    call = {"steps": 300, "step_size": 0.02, "tol": 1e-2, "momentum": momentum}
    hold = (lambda i: {"clamp": clamp[i]}) if held else (lambda i: {})
    together = descend(wells, x0, **call, **hold(slice(None)))
    assert len(set(together.steps_taken.tolist())) > 3 and together.converged.all()
    for i, row in enumerate(x0):
        alone = descend(wells, row, **call, **hold(i))
        assert_close(alone.state, together.state[i])
        assert alone.steps_taken == together.steps_taken[i]
        if held:
            assert torch.equal(together.state[i][clamp[i]], row[clamp[i]])
    noisy = descend(wells, x0, **call, **hold(slice(None)), noise=1e-3)
    assert len(set(noisy.steps_taken.tolist())) > 1
    assert not held or torch.equal(noisy.state[clamp], x0[clamp])


def test_callback_sees_what_record_keeps_and_cannot_spoil_it():
    seen = []

    def look(step, state):
        seen.append((step, state.clone()))
        state.fill_(torch.nan)

    x0 = states(2, 3, 4)
    call = {"steps": 40, "step_size": 0.05, "tol": 0.3}
    end = descend(wells, x0, **call, record=True, callback=look)
    assert [t for t, _ in seen] == list(range(int(end.steps_taken.max()) + 1))
    assert torch.equal(torch.stack([x for _, x in seen]), end.trajectory.states)
    assert torch.equal(end.state, descend(wells, x0, **call).state)


def test_empty_batch():
    end = descend(bowl, torch.zeros(0, 3), steps=4, step_size=0.5, tol=0.1, record=True)
    assert end.state.shape == (0, 3) and end.energy.shape == (0,)
    assert end.trajectory.energies.shape == (1, 0)


# ------------------------------------------------------------------ downhill, clamps, record


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), step=st.floats(1e-4, 8e-3), hold=st.booleans())
def test_energy_never_rises(seed, step, hold):
    x0 = states(3, 5, seed=seed)
    clamp = torch.rand(3, 5, generator=torch.Generator().manual_seed(seed)) < 0.4 if hold else None
    path = descend(wells, x0, steps=20, step_size=step, clamp=clamp, record=True).trajectory
    assert (path.energies.diff(dim=0) <= 1e-12).all()


def test_clamped_entries_never_move_even_with_noise_and_momentum():
    x0 = states(3, 5)
    clamp = torch.tensor([True, False, True, False, False])
    end = descend(
        wells, x0, steps=9, step_size=0.01, clamp=clamp, noise=0.5, momentum=0.5, record=True
    )
    assert torch.equal(end.trajectory.states[:, :, clamp], x0[:, clamp].expand(10, 3, 2))
    assert (end.state[:, ~clamp] != x0[:, ~clamp]).all()


def test_stopping_looks_at_free_entries_only():
    x0 = torch.tensor([[100.0, 0.1]])
    end = descend(bowl, x0, steps=9, step_size=0.5, tol=0.2, clamp=torch.tensor([True, False]))
    assert end.converged.all() and end.steps_taken.item() == 0


def test_record_holds_the_start_every_step_and_the_end():
    x0 = torch.tensor([[4.0], [1.0]])
    end = descend(bowl, x0, steps=9, step_size=0.5, tol=1.0, record=True)
    assert_close(end.trajectory.states[..., 0], torch.tensor([[4.0, 1], [2, 1], [1, 1]]))
    assert_close(end.trajectory.energies, bowl(end.trajectory.states))
    plain = descend(bowl, x0, steps=2, step_size=0.5, record=True)
    assert plain.trajectory.states.shape == (3, 2, 1)
    assert descend(bowl, x0, steps=2, step_size=0.5).trajectory is None


def test_zero_steps_look_but_do_not_move():
    x0 = states(2, 3)
    end = descend(bowl, x0, steps=0, step_size=1.0, tol=1e-9)
    assert torch.equal(end.state, x0) and not end.converged.any()


# ------------------------------------------------------------------ gradients and modes


def test_given_gradient_equals_automatic_differentiation():
    x0 = states(3, 7)

    def slope(x):
        return 4 * x * (x**2 - 1) + 0.2 * x.sum(-1, keepdim=True)

    ours = descend(wells, x0, steps=15, step_size=0.01, gradient=slope)
    auto = descend(wells, x0, steps=15, step_size=0.01)
    assert_close(ours.state, auto.state, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_gradient_mode_gives_the_same_and_leaves_the_caller_alone(mode):
    x0 = states(3, 5).requires_grad_()
    before, version = x0.detach().clone(), x0._version
    with mode():
        tracking = torch.is_grad_enabled()
        end = descend(wells, x0, steps=5, step_size=0.01, momentum=0.5, tol=1e-6)
        assert torch.is_grad_enabled() == tracking
    expected = descend(wells, before, steps=5, step_size=0.01, momentum=0.5, tol=1e-6)
    assert_close(end.state, expected.state)
    assert not end.state.requires_grad
    assert torch.equal(x0, before) and x0._version == version
    assert x0.grad is None and x0.requires_grad


def test_a_start_made_under_inference_mode_is_fine():
    with torch.inference_mode():
        x0 = torch.ones(2, 3)
        assert_close(descend(bowl, x0, steps=1, step_size=0.5).state, torch.full((2, 3), 0.5))


def test_parameters_of_the_energy_get_no_gradient():
    weight = torch.nn.Parameter(torch.tensor(2.0))
    descend(lambda x: weight * bowl(x), torch.ones(2, 3), steps=3, step_size=0.1)
    assert weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    end = descend(bowl, torch.ones(2, 3, dtype=dtype), steps=1, step_size=0.1, noise=0.1)
    assert end.state.dtype == end.energy.dtype == dtype


# ------------------------------------------------------------------ nothing infinite is followed


def test_divergence_names_step_and_element():
    x0 = torch.tensor([[0.0], [1.0]])
    with pytest.raises(FloatingPointError, match=r"gradient of batch element \(1,\) .* step 1\d"):
        descend(bowl, x0, steps=500, step_size=1000.0)


def test_a_single_state_is_called_the_state():
    with pytest.raises(FloatingPointError, match="gradient of the state is not finite at step 0"):
        descend(lambda x: x.sqrt().sum(-1), torch.zeros(2), steps=1, step_size=0.1)


def test_infinite_energy_is_accepted_only_where_no_way_leads_down():
    def island(x):  # a bowl of radius 1, and nothing outside
        inside = x.square().sum(-1) < 1
        return torch.where(inside, bowl(x), torch.inf)

    x0 = torch.tensor([[0.5], [3.0]])
    end = descend(island, x0, steps=9, step_size=0.5, tol=0.1)
    assert end.energy[1] == torch.inf
    assert end.converged.tolist() == [True, False]
    assert end.state[1].item() == 3.0 and end.steps_taken[1] == 0
    with pytest.raises(FloatingPointError, match=r"energy of batch element \(1,\)"):
        descend(island, x0, steps=2, step_size=0.5, gradient=lambda x: x.clamp(-0.1, 0.1))


def test_nan_and_minus_infinity_are_refused():
    for bad in (torch.nan, -torch.inf):
        with pytest.raises(FloatingPointError, match=r"energy of batch element \(0,\)"):
            descend(
                lambda x, bad=bad: torch.where(x.sum(-1) > 0, bad, bowl(x)),
                torch.ones(1, 2),
                steps=1,
                step_size=0.1,
                gradient=torch.zeros_like,
            )


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"energy": lambda x: x.square().sum()}, ValueError, r"energy returned shape \(\), exp.*"),
        ({"energy": lambda x: x}, ValueError, r"energy returned shape \(2, 3\), expected one val"),
        ({"energy": lambda x: bowl(x)[:1]}, ValueError, r"energy returned shape \(1,\)"),
        ({"energy": lambda x: 3.0}, ValueError, "energy returned a float"),
        ({"energy": lambda x: bowl(x.detach())}, ValueError, "energy: its values cannot be diff"),
        (
            {"gradient": lambda x: x[0]},
            ValueError,
            r"gradient: returned a float32 tensor of shape \(3,\), expected shape \(2, 3\)",
        ),
        ({"gradient": lambda x: 3}, ValueError, "gradient: returned a int 3, expected shape"),
        ({"gradient": 3}, TypeError, "gradient: got a int 3, expected a function"),
        ({"energy": "bowl"}, TypeError, "energy: got a str 'bowl', expected a function"),
        ({"callback": 3}, TypeError, r"callback: got a int 3, expected f\(step, state\)"),
        ({"generator": 3}, TypeError, "generator: got a int 3, expected None or a torch.Generator"),
        ({"x0": torch.ones(2, 3).to_sparse()}, TypeError, "x0: got a sparse float32 tensor"),
        ({"x0": torch.ones(2, 3, device="meta")}, TypeError, "on the meta device, expected"),
        ({"x0": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "x0: got a int64 tensor"),
        ({"x0": torch.tensor(1.0)}, ValueError, "x0: got a 0-dim"),
        ({"x0": torch.tensor([[1.0, torch.nan]])}, ValueError, "x0: 1 of 2 entries are NaN"),
        ({"steps": -1}, ValueError, "steps = -1: expected a whole number >= 0"),
        ({"steps": 1.5}, ValueError, "steps = 1.5: expected a whole number"),
        ({"step_size": 0}, ValueError, "step_size = 0.0: expected a finite number > 0"),
        ({"noise": -1.0}, ValueError, "noise = -1.0: expected a finite number >= 0"),
        ({"momentum": 1.0}, ValueError, r"momentum = 1.0: expected a number in \[0, 1\)"),
        ({"tol": -0.1}, ValueError, "tol = -0.1: expected a finite number >= 0"),
        ({"clamp": torch.ones(3)}, TypeError, "clamp: got a float32 tensor"),
        ({"clamp": torch.ones(4, dtype=torch.bool)}, ValueError, r"clamp: got shape \(4,\)"),
    ],
)
def test_bad_input_is_one_clear_line(change, kind, text):
    call = {"energy": bowl, "x0": torch.ones(2, 3), "steps": 2, "step_size": 0.1} | change
    with pytest.raises(kind, match=text) as caught:
        descend(call.pop("energy"), call.pop("x0"), **call)
    assert "\n" not in str(caught.value)


def test_energy_over_inference_tensors_says_so():
    with torch.inference_mode():
        centre = torch.ones(3)
    with pytest.raises(ValueError, match="made under torch.inference_mode"):
        descend(lambda x: bowl(x * centre), torch.ones(2, 3), steps=1, step_size=0.1)


# ------------------------------------------------------------------ counting where descents end


def test_distinct_groups_and_labels():
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    which = torch.tensor([2, 0, 0, 1, 2, 1, 1])
    found, label = distinct(centres[which] + 1e-3 * states(7, 2, dtype=torch.float32), tol=0.1)
    assert_close(found, centres[[2, 0, 1]], rtol=0, atol=0.01)
    assert label.tolist() == [0, 1, 1, 2, 0, 2, 2]


def test_distinct_counts_the_minima_of_a_double_well():
    x0 = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None]
    ends = descend(lambda x: ((x**2 - 1) ** 2).sum(-1), x0, steps=500, step_size=0.05).state
    found, _ = distinct(ends, tol=1e-3)
    assert_close(found.sort(dim=0).values[:, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64))


def test_distinct_refuses_bad_input():
    for bad in (torch.nan, torch.inf):  # which are near nothing, not even themselves
        with pytest.raises(ValueError, match="states: 1 of 2 entries are NaN or infinite"):
            distinct(torch.tensor([[1.0], [bad]]), tol=0.1)
    with pytest.raises(ValueError, match="tol = 0.0: expected a finite number > 0"):
        distinct(torch.ones(2, 2), tol=0.0)
    with pytest.raises(ValueError, match="states: got a float32 tensor of shape"):
        distinct(torch.ones(2), tol=0.1)
