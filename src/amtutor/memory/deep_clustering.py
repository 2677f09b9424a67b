r"""Deep clustering: an autoencoder whose codes pass through a memory on their way back.

.. math:: \min_{\phi,\vartheta,\Xi}
          \sum_x \bigl\|x - d_\vartheta\bigl(f_\Xi(e_\phi(x))\bigr)\bigr\|^2
          \qquad\text{(MM 5.26)}

The encoder e and the decoder d are any networks; :math:`f_\Xi` is a descent of few, small steps
(:func:`amtutor.memory.relocation.relocate`), which draws codes together and keeps a share
:math:`(1-\eta)^T` of what they were. One loss moves all three.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from amtutor import _check
from amtutor.memory.relocation import (
    Schedule,
    basins,
    contract,
    kmeans_objective,
    spread_of,
    square_distances,
)

__all__ = ["DeepClAM"]

_ROWS = 2**12  # pictures that pass together where no slope is needed


class _Units(nn.Module):
    """To standard units, or back: fixed, the first or last layer of the networks made here."""

    centre: Tensor

    def __init__(self, centre: np.ndarray, scale: float, *, back: bool = False):
        super().__init__()
        self.register_buffer("centre", torch.from_numpy(centre))
        self.scale, self.back = scale, back

    def forward(self, x: Tensor) -> Tensor:
        if self.back:
            return x * self.scale + self.centre
        return (x.flatten(1) - self.centre) / self.scale


def _chain(sizes: list[int]) -> list[nn.Module]:
    """Linear layers of these sizes with a SiLU between any two."""
    layers: list[nn.Module] = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(n, m), nn.SiLU()]
    return layers[:-1]


class DeepClAM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    r"""Cluster pictures, or anything, by codes that are learned for it.

    First the encoder and the decoder learn to reconstruct (``pretrain`` epochs), k-means on the
    codes gives the first memories, then everything minimises the error of reconstruction from
    contracted codes, by Adam, while beta rises.

    Args:
        n_clusters: K, at most the number of points.
        encoder: a module from (n, \*shape of a picture) to codes (n, D); decoder: back. They are
            copied, not changed. None: layers of the sizes ``hidden`` to ``latent_dim`` and back.
        latent_dim, hidden: for networks made here.
        beta: "auto", a number > 0 in the units of the codes, or (start, end). "auto" goes from 4
            to 40 over the median lead of the first memories, as in :class:`ClAM`.
        steps: T; step_size: eta in (0, 2) or (start, end). A share :math:`(1-\eta)^T` of a code
            stays; with step_size=1 a code is forgotten but for its cluster.
        augment: a function (x, generator) that moves or spoils a batch; the encoder sees what it
            returns, the decoder must give the original back. What it changes leaves the codes.
        pretrain: epochs without memories; max_iter: epochs with them. With max_iter=0 it is an
            autoencoder, and k-means on its codes.
        batch_size: of a gradient step. learning_rate: of Adam.
        n_init: starts of the k-means on the codes.
        random_state: for weights, batches and k-means.

    Attributes:
        ``encoder_``, ``decoder_``, ``memories_`` (K, D), ``labels_``, ``beta_``, ``inertia_`` (of
        the codes), ``loss_`` (squared error per entry, of the last epoch), ``loss_curve_``,
        ``n_iter_``, ``n_features_in_``.

    Source: MM 5.24-5.26.

    >>> import numpy as np
    >>> X = np.repeat([[0.0, 1.0], [5.0, 3.0]], 4, axis=0)
    >>> len(set(DeepClAM(2, hidden=(4,), latent_dim=2, random_state=0).fit_predict(X)))
    2
    """

    def __init__(
        self,
        n_clusters=8,
        *,
        encoder=None,
        decoder=None,
        latent_dim=8,
        hidden=(64,),
        beta="auto",
        steps=5,
        step_size=0.2,
        augment=None,
        pretrain=20,
        max_iter=20,
        batch_size=256,
        learning_rate=2e-3,
        n_init=3,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.beta = beta
        self.steps = steps
        self.step_size = step_size
        self.augment = augment
        self.pretrain = pretrain
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn networks and memories of X, (n, d) or pictures (n, \\*shape); y is not used."""
        X = self._begin(X)
        x = torch.from_numpy(X).reshape(len(X), *self._shape)
        with torch.inference_mode(False), torch.enable_grad():
            for _ in range(self.pretrain):
                self.loss_curve_.append(self._epoch(x, None, 0.0))
            self._first_memories(x)
            for epoch in range(self.max_iter):
                share = epoch / max(1, self.max_iter - 1)
                self.loss_curve_.append(self._epoch(x, self._memories, share))
        return self._finish(X)

    def partial_fit(self, X, y=None):
        """One gradient step on a batch X, at the last beta; the first batch sets the start."""
        if not hasattr(self, "memories_"):
            X = self._begin(X)
            with torch.inference_mode(False):
                self._first_memories(torch.from_numpy(X).reshape(len(X), *self._shape))
        else:
            self._check_settings()
            X = self._flat(X, reset=False)
        x = torch.from_numpy(X).reshape(len(X), *self._shape)
        with torch.inference_mode(False), torch.enable_grad():
            self.loss_curve_.append(self._step(x, self._memories, 1.0))
        return self._finish(X)

    def predict(self, X) -> np.ndarray:
        """Into whose valley each code goes, (n,)."""
        z, eta = self._codes(X), self._eta(1.0)
        bank = self._memories.detach()
        into = basins(z, bank, beta=self.beta_, steps=self.steps, step_size=eta)
        return into.numpy().astype(np.int32)

    def transform(self, X) -> np.ndarray:
        """Distances of codes to memories, (n, K)."""
        return square_distances(self._codes(X), self._memories.detach()).sqrt().numpy()

    def encode(self, X, *, contracted: bool = False) -> np.ndarray:
        """Codes (n, D), as the encoder gives them, or after the descent."""
        z = self._codes(X)
        if _check.boolean("contracted", contracted):
            z = self._contracted(z)
        return z.numpy()

    def reconstruct(self, X, *, contracted: bool = True) -> np.ndarray:
        """X as it comes back by way of its (contracted) codes, in the shape it came."""
        shape = np.shape(X)
        codes = torch.from_numpy(self.encode(X, contracted=contracted))
        return self._decoded(codes).reshape(shape)

    def prototypes(self) -> np.ndarray:
        """The memories as pictures, (K, \\*shape)."""
        check_is_fitted(self)
        return self._decoded(self._memories.detach()).reshape(-1, *self._shape)

    # -------------------------------------------------------------------- behind the doors

    @property
    def _n_features_out(self) -> int:
        return len(self.memories_)

    def _check_settings(self) -> None:
        """Refuse settings that mean nothing, one line each."""
        names = ("n_clusters", "latent_dim", "steps", "batch_size", "n_init")
        for name in names:
            _check.count(name, getattr(self, name))
        _check.count("max_iter", self.max_iter, least=0)
        _check.count("pretrain", self.pretrain, least=0 if self.max_iter else 1)
        _check.positive("learning_rate", self.learning_rate)
        wanted = "a tuple of whole numbers >= 1"
        _check.sizes("hidden", self.hidden, dims=range(1, 20), expected=wanted)
        if not (isinstance(self.beta, str) and self.beta == "auto"):
            Schedule.of("beta", self.beta, also="'auto', ")
        Schedule.of("step_size", self.step_size, most=2)
        if self.augment is not None and not callable(self.augment):
            raise TypeError(
                f"augment: got a {_check.describe(self.augment)}, "
                "expected None or a function (x, generator)"
            )
        for name in ("encoder", "decoder"):
            if not isinstance(getattr(self, name), (nn.Module, type(None))):
                raise TypeError(
                    f"{name}: got a {_check.describe(getattr(self, name))}, "
                    "expected None or a torch.nn.Module"
                )

    def _flat(self, X, *, reset: bool) -> np.ndarray:
        """X as checked rows, in its own precision; the shape of a picture is kept apart."""
        X = X.detach().cpu().numpy() if isinstance(X, Tensor) else X
        shape = np.shape(X)[1:] if getattr(X, "ndim", 0) > 2 else None
        if shape:
            X = np.reshape(X, (len(X), -1))
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=reset)
        if reset:
            self._shape = shape or X.shape[1:]
        return np.ascontiguousarray(X)

    def _begin(self, X) -> np.ndarray:
        """Check, and make networks."""
        self._check_settings()
        X = self._flat(X, reset=True)
        if len(X) < self.n_clusters:
            raise ValueError(
                f"n_samples = {len(X)}: expected at least n_clusters = {self.n_clusters}"
            )
        self._draw = check_random_state(self.random_state)
        centre, self._scale = spread_of(X)
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._draw.randint(2**31 - 1))
            sizes = [X.shape[1], *self.hidden, self.latent_dim]
            there, back = _chain(sizes), _chain(sizes[::-1])
            self.encoder_ = copy.deepcopy(self.encoder) or nn.Sequential(
                _Units(centre, self._scale), *there
            )
            self.decoder_ = copy.deepcopy(self.decoder) or nn.Sequential(
                *back, _Units(centre, self._scale, back=True)
            )
        dtype = torch.from_numpy(X[:0]).dtype
        self.encoder_.to(dtype).train(), self.decoder_.to(dtype).train()
        weights = [*self.encoder_.parameters(), *self.decoder_.parameters()]
        self._optimizer = torch.optim.Adam([{"params": weights}], lr=self.learning_rate)
        self.loss_curve_: list[float] = []
        return X

    def _first_memories(self, x: Tensor) -> None:
        """K-means on the codes, and a schedule for beta that fits them."""
        with torch.no_grad():
            z = self._encoded(x)
            means = KMeans(self.n_clusters, n_init=self.n_init, random_state=self._draw)
            first = means.fit(z.numpy()).cluster_centers_
            self._memories = nn.Parameter(torch.from_numpy(first.astype(z.numpy().dtype)))
            two = square_distances(z, self._memories).topk(min(2, len(first)), largest=False)[0]
            lead = float((two[:, -1] - (two[:, 0] if len(first) > 1 else 0)).median()) or 1.0
            rate = self.learning_rate * float(z.std(0, correction=0).mean())
        auto = isinstance(self.beta, str)
        self._beta = Schedule(4 / lead, 40 / lead) if auto else Schedule.of("beta", self.beta)
        self._optimizer.add_param_group({"params": [self._memories], "lr": rate})

    def _epoch(self, x: Tensor, memories: Tensor | None, share: float) -> float:
        """All batches once; the mean loss."""
        order = torch.from_numpy(self._draw.permutation(len(x)))
        total = 0.0
        for rows in order.split(self.batch_size):
            total += self._step(x[rows], memories, share) * len(rows)
        return total / len(x)

    def _step(self, x: Tensor, memories: Tensor | None, share: float) -> float:
        """One gradient step; the loss before it, per entry."""
        seen = x
        if self.augment is not None:
            g = torch.Generator().manual_seed(self._draw.randint(2**31 - 1))
            seen = self.augment(x, g)
        z = self.encoder_(seen)
        if z.ndim != 2:
            raise ValueError(f"encoder: gave a {_check.describe(z)}, expected codes (n, D)")
        if memories is not None:
            z = contract(z, memories, self._beta.at(share), self.steps, self._eta(share))
        loss = (self.decoder_(z).flatten(1) - x.flatten(1)).square().mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss = {float(loss.detach())}: expected a finite number; learning_rate = "
                f"{self.learning_rate} is too large for these networks"
            )
        self._optimizer.zero_grad()
        (loss / self._scale**2).backward()
        self._optimizer.step()
        return float(loss.detach())

    def _finish(self, X: np.ndarray) -> DeepClAM:
        self.encoder_.eval(), self.decoder_.eval()
        self._memories.grad = None
        self.memories_ = self._memories.detach().numpy().copy()
        self.beta_, self.n_iter_ = self._beta.end, len(self.loss_curve_)
        self.loss_ = self.loss_curve_[-1]
        pictures = X.reshape(len(X), *self._shape)
        self.labels_ = self.predict(pictures)
        self.inertia_ = float(kmeans_objective(self._codes(pictures), self._memories.detach()))
        return self

    def _eta(self, share: float) -> float:
        return Schedule.of("step_size", self.step_size, most=2).at(share)

    def _codes(self, X) -> Tensor:
        check_is_fitted(self)
        X = self._flat(X, reset=False)
        return self._encoded(torch.from_numpy(X).reshape(len(X), *self._shape))

    def _blocks(self, x: Tensor) -> Iterator[Tensor]:
        yield from x.split(_ROWS)

    def _encoded(self, x: Tensor) -> Tensor:
        dtype = next(self.encoder_.parameters()).dtype
        with torch.no_grad():
            return torch.cat([self.encoder_(rows.to(dtype)) for rows in self._blocks(x)])

    def _contracted(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            return contract(z, self._memories.detach(), self.beta_, self.steps, self._eta(1.0))

    def _decoded(self, z: Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([self.decoder_(rows) for rows in self._blocks(z)]).numpy()
