r"""Float32 products through the faster of a CPU's two matrix libraries.

PyTorch on a CPU has two: the BLAS it was built with (MKL), behind ``@``, and oneDNN, behind
convolutions. On AMD processors MKL runs float32 at about half of oneDNN's speed. A 1x1 convolution
over a channels-last picture *is* a matrix product, so both functions here write the product as one,
with the long matrix as the picture: its rows are pixels, its columns channels. That is a public and
exact float32 route; results differ from ``@`` by rounding only.

Where the route does not exist (another device or dtype, no oneDNN) they are plain ``@``.
:func:`reduced_precision` is another matter: it may compute less exactly, and is never on by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

__all__ = ["long_times_transpose", "onednn_route", "reduced_precision", "transpose_times_long"]

_PICTURES = 16  # oneDNN takes a convolution on one thread only from 16 pictures up


def onednn_route(long: Tensor, other: Tensor) -> bool:
    """Whether a product of these two goes through oneDNN (float32, CPU, plain rows)."""
    return (
        torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (long, other))
        and long.is_contiguous()
        and min(*long.shape, *other.shape) > 0
        and len(long) >= _PICTURES
    )


def long_times_transpose(long: Tensor, other: Tensor) -> Tensor:
    r"""``long @ other.T`` for ``long`` (N, C) with many rows and ``other`` (M, C): (N, M).

    >>> a, b = torch.randn(100, 5), torch.randn(3, 5)
    >>> torch.allclose(long_times_transpose(a, b), a @ b.T, atol=1e-5)
    True
    """
    if not onednn_route(long, other):
        return long @ other.T
    whole = len(long) - len(long) % _PICTURES
    product = _rows(torch.conv2d(_picture(long[:whole]), other[:, :, None, None]))
    if whole == len(long):
        return product
    return torch.cat([product, long[whole:] @ other.T])


def transpose_times_long(weights: Tensor, long: Tensor) -> Tensor:
    r"""``weights.T @ long`` for ``weights`` (N, M), ``long`` (N, C), N large: (M, C).

    This is what training calls the gradient of the convolution with respect to its kernel.

    >>> p, a = torch.randn(100, 3), torch.randn(100, 5)
    >>> torch.allclose(transpose_times_long(p, a), p.T @ a, atol=1e-4)
    True
    """
    if not (onednn_route(long, weights) and weights.is_contiguous()):
        return weights.T @ long
    whole = len(long) - len(long) % _PICTURES
    product = conv2d_weight(
        _picture(long[:whole]),
        (weights.shape[1], long.shape[1], 1, 1),
        _picture(weights[:whole]),
    )[:, :, 0, 0]
    if whole == len(long):
        return product
    return product + weights[whole:].T @ long[whole:]


def _picture(rows: Tensor) -> Tensor:
    """See (N, C) rows as channels-last pictures (16, C, N/16, 1), without a copy."""
    n, c = rows.shape
    high = n // _PICTURES
    return rows.as_strided((_PICTURES, c, high, 1), (high * c, 1, c, c), rows.storage_offset())


def _rows(picture: Tensor) -> Tensor:
    """Undo :func:`_picture`."""
    return picture.permute(0, 2, 3, 1).reshape(-1, picture.shape[1])


@contextmanager
def reduced_precision() -> Iterator[None]:
    r"""Let float32 products inside the ``with`` block run on bfloat16 hardware where there is some.

    On processors with bfloat16 matrix units (Intel AMX) products then keep about 8 significant
    bits, 3 digits; on others oneDNN still computes true float32, only faster than MKL. Affects
    every ``@`` of the process while the block runs, and puts the setting back afterwards. Off
    unless you ask.

    Raises:
        RuntimeError: torch is older than 2.9.

    >>> if hasattr(torch.backends.mkldnn, "matmul"):  # torch 2.9 or newer
    ...     with reduced_precision():
    ...         print(torch.ones(2, 2) @ torch.ones(2, 2))
    ... else:
    ...     print(torch.full((2, 2), 2.0))
    tensor([[2., 2.],
            [2., 2.]])
    """
    setting: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(setting, "fp32_precision"):
        raise RuntimeError(
            f"torch {torch.__version__}: has no torch.backends.mkldnn.matmul.fp32_precision, "
            "expected torch >= 2.9"
        )
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
