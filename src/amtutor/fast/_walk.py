r"""The Energy Transformer block, compiled or scheduled by hand: same numbers, about half the time.

The plain form is `amtutor.network.energy_transformer.EnergyTransformerBlock`. No formula differs.
On a GPU its step goes through ``torch.compile``, which was 1.7 times as fast there in training as
the schedule by hand (one update, D = 768). On a CPU the schedule by hand is used. It differs from
the plain form in this:

* Query and key weights lie in one matrix W, scaled by :math:`\sqrt\beta` each, so scores need no
  scaling and an update is :math:`x \mathrel{+}= \frac\eta\beta\, [PK, P^\top Q]\, W`, one product.
* Scores exist for a few heads or query rows at a time (`_chunks`), overlaps with memories for a
  block of tokens at a time, in buffers that are used again. A row of scores is always whole, so
  its softmax is exact, and memory grows like N, not like its square.
* The backward pass through all steps is written out. "fast" keeps scores and overlaps of every
  step; "lean" keeps the tokens only and computes the rest again, streamed as above.
* Float32 products on a CPU go to the faster of its two matrix libraries (see `matmul`), if a probe
  shows that they stay float32 there.

Under ``torch.autocast`` products run in its dtype, while tokens, sums of weight gradients and layer
norm stay in float32. First derivatives only: for second ones, and for vmap, use the plain form.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from amtutor import _check
from amtutor.descent import watched_by
from amtutor.fast._matmul import reduced_precision
from amtutor.network.energy_transformer import EnergyTransformerBlock, MixedHeadAttention
from amtutor.network.lagrangians import RectifiedPower, ReLU, Softmax
from amtutor.network.synapses import allowed_pairs, tokens

__all__ = ["walk"]

_SCORES = 2**20  # scores held at a time: 4 MB in float32, which a processor's cache can hold
_OVERLAPS = 2**22  # overlaps with memories held at a time, where a larger product is a faster one
_aten = torch.ops.aten


@torch.compiler.disable
def walk(
    block: EnergyTransformerBlock,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    mask: Tensor | None = None,
    mode: str | None = None,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    r"""Take ``steps`` steps of ``block``; agrees with ``block(x, ...)`` to rounding.

    Args:
        x, steps, step_size, mask: as in `EnergyTransformerBlock.forward`.
        mode: None chooses by the device of ``x``: "compiled" on a GPU, "fast" elsewhere.

            * "compiled": the plain step under ``torch.compile``; the first call takes seconds.
              Where that fails a warning says so, and the plain step is taken as it is.
            * "fast": by hand. Keeps what a backward pass, if one may come, will need: memory
              (steps x samples x N x (H N + K)).
            * "lean": by hand. Keeps the tokens and computes the rest again, for about a sixth more
              time. Without gradients there is no difference to "fast".
        callback: is called with (step, tokens) after every step, step 0 being the start; the tokens
            are a copy without gradients. With it the steps are taken one by one, which by hand
            costs some of the speed.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape, or (by hand) the
            block's memories use a Lagrangian that has no fast form, or its heads are mixed.

    >>> g = torch.Generator().manual_seed(0)
    >>> block = EnergyTransformerBlock(8, n_heads=2, head_dim=4, n_memories=16, generator=g)
    >>> x = torch.randn(3, 5, 8, generator=g)
    >>> torch.allclose(walk(block, x, steps=4, step_size=0.1), block(x, steps=4, step_size=0.1))
    True
    """
    _check.choice("mode", mode, (None, "compiled", "fast", "lean"))
    if not isinstance(block, EnergyTransformerBlock):
        got = _check.describe(block)
        raise TypeError(f"block: got a {got}, expected an EnergyTransformerBlock")
    steps = _check.count("steps", steps, least=0)
    step_size = _check.positive("step_size", step_size)
    weight = block.hopfield.memories
    tokens(x, weight.shape[1], "x")
    if x.dtype in (torch.bfloat16, torch.float16) and weight.dtype == torch.float32:
        x = x.float()  # under autocast the tokens stay wide, whoever made them
    _check.same_kind("x", x, weight)
    mode = _choose(x.device) if mode is None else mode
    if mode != "compiled" and isinstance(block.attention, MixedHeadAttention):
        raise ValueError(f"mode = {mode!r}: expected 'compiled', or block(x, ...): heads are mixed")
    go = _by_compiled_steps if mode == "compiled" else partial(_by_hand, lean=mode == "lean")
    watchers = watched_by(callback)
    if not watchers:
        return go(block, x, steps, step_size, mask)
    for step in range(steps + 1):
        x = go(block, x, 1, step_size, mask) if step else x
        for watcher in watchers:
            watcher(step, x.detach().clone())
    return x


def _by_compiled_steps(block, x: Tensor, steps: int, step_size: float, mask) -> Tensor:
    for _ in range(steps):
        x = _compiled_step(block, x, step_size, mask)
    return x


def _by_hand(block, x: Tensor, steps: int, step_size: float, mask, *, lean: bool) -> Tensor:
    weight = block.hopfield.memories
    query_key = torch.cat(
        [block.attention.W_query.flatten(0, 1), block.attention.W_key.flatten(0, 1)]
    )
    query_key = query_key * math.sqrt(block.attention.beta)
    rows = x.reshape(-1, *x.shape[-2:])
    inputs = rows, query_key, weight, block.norm.gamma, block.norm.delta
    wanted = any(t is not None and t.requires_grad for t in inputs) and torch.is_grad_enabled()
    plan = _plan(block, x, steps, step_size, mask, keep=wanted and not lean)
    with torch.autocast(x.device.type, enabled=False):
        if wanted:
            return _Descent.apply(plan, *inputs).reshape(x.shape)
        with torch.no_grad(), _products(plan):
            return _forward(plan, *inputs, saved=None).reshape(x.shape)


def _choose(device: torch.device) -> str:
    """What is fastest on a device."""
    return "compiled" if device.type == "cuda" else "fast"


def _plain_step(block: EnergyTransformerBlock, x: Tensor, step_size: float, mask) -> Tensor:
    return block.step(x, step_size=step_size, mask=mask)


class _CompiledStep:
    """`_plain_step` under torch.compile; as it is, and said aloud, where that fails."""

    def __init__(self, backend: str = "inductor"):
        self.backend = backend
        self.step: Callable[..., Tensor] | None = None

    def __call__(self, *arguments) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException

        if self.step is None:
            try:
                self.step = torch.compile(_plain_step, backend=self.backend)
            except RuntimeError as error:  # torch has no compiler for this Python
                self.step = self._give_up(error)
        try:
            return self.step(*arguments)
        except TorchDynamoException as error:
            self.step = self._give_up(error)
            return self.step(*arguments)

    def _give_up(self, error: Exception) -> Callable[..., Tensor]:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        warnings.warn(
            f"fast.walk: torch.compile failed here ({type(error).__name__}: {reason}); from now on "
            'the plain step is taken, which is slower (mode="fast" is the one by hand)',
            RuntimeWarning,
            stacklevel=4,
        )
        return _plain_step


_compiled_step = _CompiledStep()


@dataclass
class _Plan:
    """All that is fixed during a run."""

    shape: tuple[int, int, int]  # B samples, N tokens, D
    heads: int
    depth: int
    beta: float
    eps: float
    steps: int
    eta: float
    dtype: torch.dtype  # of products
    device: torch.device
    rule: _Rule
    keep: bool  # scores and overlaps for a backward pass
    diagonal: bool  # hide B = C, and nothing else
    hidden: Tensor | None  # (B or 1, N, N), True where C may not see B
    lonely: Tensor | None  # (B or 1, N), True where C sees nothing
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Hand out the same memory again and again; contents are whatever they were."""
        size = math.prod(shape)
        if name not in self.buffers or self.buffers[name].numel() < size:
            self.buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self.buffers[name][:size].view(shape)


def _plan(block, x: Tensor, steps: int, step_size: float, mask, *, keep: bool) -> _Plan:
    heads, depth, dim = block.attention.W_query.shape
    n = x.shape[-2]
    shape = (math.prod(x.shape[:-2]), n, dim)
    own = block.attention.exclude_self
    hidden = lonely = allowed = None
    if mask is not None or (own and n == 1):
        pairs = x.new_empty(()).expand(*x.shape[:-1], n)
        allowed = allowed_pairs(pairs, mask, exclude_self=own)
    if allowed is not None:
        if math.prod(allowed.shape[:-2]) > 1:
            allowed = allowed.expand(pairs.shape)
        hidden = ~allowed.expand(*allowed.shape[:-2], n, n).reshape(-1, n, n)
        lonely = hidden.all(-1)
        lonely = lonely if lonely.any() else None
    return _Plan(
        shape=shape,
        heads=heads,
        depth=depth,
        beta=block.attention.beta,
        eps=block.norm.eps,
        steps=steps,
        eta=float(step_size),
        dtype=_product_dtype(x),
        device=x.device,
        rule=_rule(block.hopfield.lagrangian),
        keep=keep,
        diagonal=own and hidden is None,
        hidden=hidden,
        lonely=lonely,
    )


# ---------------------------------------------------------------------- the way down


def _forward(plan: _Plan, x, query_key, memories, gamma, delta, *, saved: list | None) -> Tensor:
    """All steps; what a backward pass needs is appended to ``saved``, step by step."""
    x = x.clone(memory_format=torch.contiguous_format)
    w, xi = query_key.to(plan.dtype), memories.to(plan.dtype)
    rows = x.view(-1, x.shape[-1])
    for _ in range(plan.steps):
        keep = {}
        if saved is not None:
            keep["x"] = x.clone()
            saved.append(keep)
        g = _normalise(plan, x, gamma, delta)[0].view(rows.shape)
        u = _attention(plan, _overlaps(plan, g, w, "z", keep), keep)
        _add_product(rows, u, w, plan.eta / plan.beta)
        for part in _token_blocks(plan, len(xi)):
            kept = plan.rule.keep(_overlaps(plan, g, xi, "h", keep, part))
            _add_product(rows[part], plan.rule.value(kept), xi, plan.eta)
    return x


def _normalise(plan: _Plan, x: Tensor, gamma: Tensor, delta: Tensor | None):
    """g in the dtype of products, and what its backward pass needs."""
    dim = x.shape[-1]
    weight = gamma.expand(dim).contiguous()
    g, mean, rstd = torch.native_layer_norm(x, (dim,), weight, delta, plan.eps)
    return g.to(plan.dtype), mean, rstd


def _overlaps(plan: _Plan, g, w, name: str, keep: dict | None, part=slice(None)) -> Tensor:
    """``g[part] @ w.T``: into memory that stays where a backward pass wants it, else a buffer."""
    rows = g[part]
    if keep is None or not plan.keep:
        out = plan.buffer(name, len(rows), len(w))
    else:
        if name not in keep:
            keep[name] = g.new_empty(len(g), len(w))
        out = keep[name][part]
    return torch.mm(rows, w.T, out=out)


def _attention(plan: _Plan, z: Tensor, keep: dict) -> Tensor:
    r"""From (tokens, [Q, K]) to (tokens, [P K, P^T Q]), both (rows, 2 H Y)."""
    q, k = _by_head(plan, z)
    u = plan.buffer("u", *z.shape)
    to_queries, to_keys = _by_head(plan, u)
    if plan.keep:
        b, n, _ = plan.shape
        keep["p"] = z.new_empty(b, plan.heads, n, n)
    for some, rows in _chunks(plan):
        queries, keys = _flat(q[some][..., rows, :]), _flat(k[some])
        out = keep["p"][some][..., rows, :] if "p" in keep else None
        p = _softmax(plan, queries, keys, some, rows, out)
        target = to_queries[some][..., rows, :]
        target.copy_(torch.bmm(p, keys).view(target.shape))
        _gather(to_keys[some], torch.bmm(p.transpose(1, 2), queries), rows)
    return u


def _softmax(plan: _Plan, queries, keys, some, rows: slice, out: Tensor | None = None) -> Tensor:
    """Attention of some queries to all keys: (heads, queries, N), in ``out`` or a buffer."""
    m, c, n = len(queries), queries.shape[1], keys.shape[1]
    scores = torch.bmm(queries, keys.transpose(1, 2), out=plan.buffer("scores", m, c, n))
    if plan.diagonal:
        scores[:, :, rows].diagonal(dim1=1, dim2=2).fill_(-math.inf)
    elif plan.hidden is not None:
        hidden = _of_samples(plan.hidden, some)[:, None, rows]
        scores.view(-1, _heads(plan, some), c, n).masked_fill_(hidden, -math.inf)
    out = scores if out is None else out.view(scores.shape)
    p = torch.softmax(scores, -1, out=out)
    if plan.lonely is not None:
        lonely = _of_samples(plan.lonely, some)[:, None, rows, None]
        p.view(-1, _heads(plan, some), c, n).masked_fill_(lonely, 0.0)
    return p


# ---------------------------------------------------------------------- the way back


class _Descent(torch.autograd.Function):
    """`_forward` with `_backward`: the gradient through all steps, written out."""

    @staticmethod
    def forward(ctx, plan: _Plan, *inputs):
        ctx.plan, ctx.kept = plan, []
        ctx.save_for_backward(*inputs)
        with _products(plan):
            end = _forward(plan, *inputs, saved=ctx.kept)
        plan.buffers.clear()
        return end

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v: Tensor):
        with torch.autocast(v.device.type, enabled=False), _products(ctx.plan):
            gradients = _backward(ctx.plan, ctx.kept, v, *ctx.saved_tensors[1:])
        ctx.plan.buffers.clear()
        return None, *gradients


def _backward(plan: _Plan, kept: list[dict], v: Tensor, query_key, memories, gamma, delta):
    """Gradients of <v, end> in the start and the parameters."""
    w, xi = query_key.to(plan.dtype), memories.to(plan.dtype)
    w_over_beta = (query_key / plan.beta).to(plan.dtype)
    d_w, d_xi = torch.zeros_like(query_key), torch.zeros_like(memories)
    d_gamma, d_delta = torch.zeros_like(gamma), None if delta is None else torch.zeros_like(delta)
    v = v.clone(memory_format=torch.contiguous_format)
    weight = gamma.expand(v.shape[-1]).contiguous()
    for step in reversed(kept):
        g, mean, rstd = _normalise(plan, step["x"], gamma, delta)
        rows, up = g.view(-1, g.shape[-1]), (v.view(-1, v.shape[-1]) * plan.eta).to(plan.dtype)
        d_g = _attention_backward(plan, step, rows, up, w, w_over_beta, d_w)
        for part in _token_blocks(plan, len(xi)):
            _memories_backward(plan, step, rows, up, xi, d_xi, d_g, part)
        wanted = [True, True, delta is not None]
        d_x, d_weight, d_bias = _aten.native_layer_norm_backward(
            d_g.view(v.shape), step["x"], v.shape[-1:], mean, rstd, weight, delta, wanted
        )
        v.add_(d_x)
        d_gamma += d_weight.sum()
        if d_delta is not None:
            d_delta += d_bias
    return v, d_w, d_xi, d_gamma, d_delta


def _attention_backward(plan: _Plan, step: dict, g, up, w, w_over_beta, d_w) -> Tensor:
    r"""Add attention's share to dW and return dg (rows, D); ``up`` is eta v.

    With X = [Q, da] and Y = [db, K], where a = P K, b = P^T Q and da, db are their gradients,
    three products of double width do the work of six: dP = X Y^T, P Y = [P db, a] and
    P^T X = [b, P^T da]. Then dS = P (dP - <P, dP>), dQ = dS K + P db, dK = dS^T Q + P^T da.
    """
    z = step["z"] if "z" in step else _overlaps(plan, g, w, "z", None)
    d_u = torch.mm(up, w_over_beta.T, out=plan.buffer("du", *z.shape))
    u, d_z = plan.buffer("u", *z.shape), plan.buffer("dz", *z.shape)
    (q, k), (da, db) = _by_head(plan, z), _by_head(plan, d_u)
    (a, b), (d_q, d_k) = _by_head(plan, u), _by_head(plan, d_z)
    y = plan.depth
    for some, rows in _chunks(plan):
        left = _flat(torch.cat([q[some][..., rows, :], da[some][..., rows, :]], -1))
        right = _flat(torch.cat([db[some], k[some]], -1))
        queries, keys = left[..., :y], right[..., y:]
        if "p" in step:
            p = _flat(step["p"][some][..., rows, :])
        else:
            p = _softmax(plan, queries, keys, some, rows)
        d_p = torch.bmm(left, right.transpose(1, 2), out=plan.buffer("dp", *p.shape))
        d_s = _softmax_backward(d_p, p)
        both = torch.bmm(p, right)
        both[..., :y] += torch.bmm(d_s, keys)
        for target, value in ((d_q, both[..., :y]), (a, both[..., y:])):
            part = target[some][..., rows, :]
            part.copy_(value.view(part.shape))
        both = torch.bmm(p.transpose(1, 2), left)
        both[..., y:] += torch.bmm(d_s.transpose(1, 2), queries)
        _gather(b[some], both[..., :y], rows)
        _gather(d_k[some], both[..., y:], rows)
    _add_product(d_w, u.T, up, 1 / plan.beta)
    _add_product(d_w, d_z.T, g)
    return torch.mm(d_z, w).to(d_w.dtype)


def _memories_backward(plan: _Plan, step: dict, g, up, xi, d_xi, d_g, part: slice) -> None:
    """Add the memories' share to dXi and to dg, for a block of tokens; ``up`` is eta v."""
    if "h" in step:
        kept = step["h"][part]
    else:
        kept = plan.rule.keep(_overlaps(plan, g, xi, "h", None, part))
    up = up[part]
    r = plan.rule.value(kept)
    d_r = torch.mm(up, xi.T, out=plan.buffer("dh", len(up), len(xi)))
    d_h = plan.rule.backward(d_r, kept)
    _add_product(d_xi, r.T, up)
    _add_product(d_xi, d_h.T, g[part])
    _add_product(d_g[part], d_h, xi)


# ---------------------------------------------------------------------- memories' activations


class _Rule:
    """Activation r(h): what to keep of h, r from it, and dh from dr. All may write over h, dr."""

    def keep(self, h: Tensor) -> Tensor:
        return h.relu_()

    def value(self, kept: Tensor) -> Tensor:
        return kept

    def backward(self, d_r: Tensor, kept: Tensor) -> Tensor:
        return _aten.threshold_backward.grad_input(d_r, kept, 0, grad_input=d_r)


@dataclass
class _PowerRule(_Rule):
    """r = max(h, 0)^(n-1) with h held below where its powers overflow, as in RectifiedPower."""

    n: float

    def _most(self, h: Tensor) -> float:
        wide = torch.float64 if h.dtype == torch.float64 else torch.float32
        return torch.finfo(wide).max ** (0.7 / self.n)

    def keep(self, h: Tensor) -> Tensor:
        return h.clamp_(0, self._most(h))

    def value(self, kept: Tensor) -> Tensor:
        return kept ** (self.n - 1)

    def backward(self, d_r: Tensor, kept: Tensor) -> Tensor:
        inside = (kept > 0) & (kept < self._most(kept))
        return d_r.mul_((self.n - 1) * kept ** (self.n - 2)).mul_(inside)


@dataclass
class _SoftmaxRule(_Rule):
    """r = softmax(beta h)."""

    beta: float

    def keep(self, h: Tensor) -> Tensor:
        return torch.softmax(h.mul_(self.beta), -1, out=h)

    def backward(self, d_r: Tensor, kept: Tensor) -> Tensor:
        return _softmax_backward(d_r, kept).mul_(self.beta)


def _rule(lagrangian) -> _Rule:
    kind = type(lagrangian)
    if kind is ReLU:
        return _Rule()
    if kind is RectifiedPower:
        return _PowerRule(lagrangian.n)
    if kind is Softmax and isinstance(lagrangian.beta, float):
        return _SoftmaxRule(lagrangian.beta)
    raise ValueError(
        f"block: its memories use {lagrangian}, expected ReLU, RectifiedPower or Softmax with a "
        "fixed beta; others have no twin"
    )


# ---------------------------------------------------------------------- shapes and products


def _by_head(plan: _Plan, z: Tensor) -> tuple[Tensor, Tensor]:
    """View (rows, 2 H Y) as two of (B, H, N, Y)."""
    b, n, _ = plan.shape
    first, second = z.view(b, n, 2, plan.heads, plan.depth).permute(2, 0, 3, 1, 4)
    return first, second


def _flat(x: Tensor) -> Tensor:
    """Join samples and heads; a copy where there are several samples."""
    return x.reshape(-1, *x.shape[-2:])


def _chunks(plan: _Plan) -> Iterator[tuple[tuple[slice, slice], slice]]:
    """Cut (samples, heads), queries so that about `_SCORES` scores exist at a time."""
    b, n, _ = plan.shape
    most = _SCORES if plan.device.type == "cpu" else 256 * _SCORES
    samples = max(1, most // (plan.heads * n * n))
    heads = plan.heads if plan.heads * n * n <= most else max(1, most // (n * n))
    rows = n if n * n <= most else max(16, most // n)
    for s in range(0, b, samples):
        for h in range(0, plan.heads, heads):
            some = slice(s, min(s + samples, b)), slice(h, min(h + heads, plan.heads))
            for c in range(0, n, rows):
                yield some, slice(c, min(c + rows, n))


def _token_blocks(plan: _Plan, memories: int) -> Iterator[slice]:
    """Cut tokens into equal blocks so that at most about `_OVERLAPS` overlaps exist at a time."""
    n = plan.shape[0] * plan.shape[1]
    blocks = -(-n * memories // _OVERLAPS)
    size = 16 * -(-n // (16 * blocks))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _heads(plan: _Plan, some: tuple[slice, slice]) -> int:
    return some[1].stop - some[1].start


def _of_samples(mask: Tensor, some: tuple[slice, slice]) -> Tensor:
    return mask if len(mask) == 1 else mask[some[0]]


def _gather(target: Tensor, value: Tensor, rows: slice) -> None:
    """Sum over blocks of queries: the first one starts, the others are added."""
    value = value.reshape(target.shape)
    target.copy_(value) if rows.start == 0 else target.add_(value)


def _add_product(target: Tensor, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """``target += scale * a @ b``, also where the target is wider than the product."""
    if target.dtype == a.dtype:
        target.addmm_(a, b, alpha=scale)
    else:
        target.add_(torch.mm(a, b), alpha=scale)


def _softmax_backward(d_p: Tensor, p: Tensor) -> Tensor:
    return _aten._softmax_backward_data.out(d_p, p, -1, p.dtype, grad_input=d_p)


def _product_dtype(x: Tensor) -> torch.dtype:
    """Dtype of products: autocast's where it is on, else that of the tokens."""
    one = x.new_ones(1, 1)
    return torch.mm(one, one).dtype


@contextmanager
def _products(plan: _Plan) -> Iterator[None]:
    """Send float32 products to oneDNN where they stay float32 there."""
    route = plan.dtype == torch.float32 and plan.device.type == "cpu" and _stays_float32()
    with reduced_precision() if route else nullcontext():
        yield


@cache
def _stays_float32() -> bool:
    """Whether `reduced_precision` reduces none on this processor (it does on those with AMX)."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 256, generator=generator) for _ in range(2))
    try:
        with reduced_precision():
            one, many = a @ b.T, torch.bmm(a.view(2, 32, 256), b.view(2, 32, 256).transpose(1, 2))
    except RuntimeError:
        return False
    exact = a.double() @ b.double().T
    blocks = torch.stack([exact[:32, :32], exact[32:, 32:]])
    errors = (one - exact).abs().max(), (many - blocks).abs().max()
    return bool(max(errors) < 1e-5 * exact.abs().max())
