"""Convolution on C,H,W,N arrays, float32, over the register tiles; see gzkern.cpu.conv2d for the contracts.

A piece of work is one output position (p, q), all channels, and up to ``BLOCK`` of the N contiguous values.
Threads share the pieces; none shares a sum, so the result does not depend on their number.
"""
# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import prange

from . import compiled
from .tiles import inner, outer

BLOCK = 256  # of N; four positions of 64 channels are 256 KB of results, which stay in L2
CHUNK = 4096  # terms along (q, n) of one pass over the weight tiles

_parallel = compiled(parallel=True)


@compiled()
def _blocks(N):
    return (N + BLOCK - 1) // BLOCK


@compiled()
def _tap_rows(C, H, W, N, R, S, K):
    """Offsets of the taps (c, r, s): in x from the first pixel of a window, in the weights from column 0."""
    x_rows = np.empty(C * R * S, np.int64)
    w_rows = np.arange(C * R * S) * K
    t = 0
    for c in range(C):
        for r in range(R):
            for s in range(S):
                x_rows[t] = ((c * H + r) * W + s) * N
                t += 1
    return x_rows, w_rows


@_parallel
def forward(x, weight, bias, relu, y):
    """y (K, P, Q, N): correlation of x (C, H, W, N) with weight (C, R, S, K), plus bias (K, P, Q)."""
    C, H, W, N = x.shape
    _, R, S, K = weight.shape
    _, P, Q, _ = y.shape
    x_rows, w_rows = _tap_rows(C, H, W, N, R, S, K)
    flat_x, flat_w, flat_y = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
    for piece in prange(P * Q * _blocks(N)):
        position, n = piece % (P * Q), piece // (P * Q) * BLOCK
        p, q = position // Q, position % Q
        length = min(BLOCK, N - n)
        outer(
            flat_w, 0, w_rows, K, flat_x, (p * W + q) * N + n, x_rows, x_rows.size,
            flat_y, position * N + n, P * Q * N, length, False,
        )  # fmt: skip
        for k in range(K):
            row = y[k, p, q, n : n + length]
            b = bias[k, p, q]
            for i in range(length):
                value = row[i] + b
                row[i] = np.float32(0) if relu and value < 0 else value


@_parallel
def forward_pooled(x, weight, bias, y, code):
    """Convolution, bias, ReLU and 2×2 max-pool: y and code (K, ⌈P/2⌉, ⌈Q/2⌉, N)."""
    C, H, W, N = x.shape
    _, R, S, K = weight.shape
    P, Q = H - R + 1, W - S + 1
    _, pooled_p, pooled_q, _ = y.shape
    x_rows, w_rows = _tap_rows(C, H, W, N, R, S, K)
    flat_x, flat_w = x.reshape(-1), weight.reshape(-1)
    windows = pooled_p * pooled_q
    for piece in prange(windows * _blocks(N)):
        pp, qq = piece % windows // pooled_q, piece % windows % pooled_q
        n = piece // windows * BLOCK
        length = min(BLOCK, N - n)
        quad = np.empty((4, K, BLOCK), np.float32)
        for corner in range(4):
            p, q = 2 * pp + corner // 2, 2 * qq + corner % 2
            if p < P and q < Q:
                outer(
                    flat_w, 0, w_rows, K, flat_x, (p * W + q) * N + n, x_rows, x_rows.size,
                    quad.reshape(-1), corner * K * BLOCK, BLOCK, length, False,
                )  # fmt: skip
                for k in range(K):
                    quad[corner, k, :length] += bias[k, p, q]
            else:  # a window over the border: this corner can never win
                quad[corner, :, :length] = -np.inf
        for k in range(K):
            _pool(
                quad[0, k], quad[1, k], quad[2, k], quad[3, k], length,
                y[k, pp, qq, n:], code[k, pp, qq, n:],
            )  # fmt: skip


@compiled()
def _pool(a, b, c, d, length, y, code):
    """The largest of four, at least 0, and the mask of the positions that equal it; NaN wins, with mask 0."""
    zero = np.float32(0)
    for i in range(length):
        # x > y or x is NaN, written so that the loop stays free of branches
        m = a[i] if not (a[i] <= b[i]) else b[i]
        m = m if not (m <= c[i]) else c[i]
        m = m if not (m <= d[i]) else d[i]
        nan = (a[i] != a[i]) | (b[i] != b[i]) | (c[i] != c[i]) | (d[i] != d[i])
        m = np.float32(np.nan) if nan else (zero if m < zero else m)
        mask = (
            np.uint8(a[i] == m)
            | np.uint8(b[i] == m) << np.uint8(1)
            | np.uint8(c[i] == m) << np.uint8(2)
            | np.uint8(d[i] == m) << np.uint8(3)
        )
        y[i] = m
        code[i] = np.uint8(mask) if m > zero else np.uint8(0)


@compiled(fastmath={"reassoc"})
def _sum(row):
    """The sum of a row, which the compiler may split over vector lanes: short chains, one order a machine."""
    total = np.float32(0)
    for value in row:
        total += value
    return total


@_parallel
def unpool(gradient, code, dz, dbias):
    """dz (K, P, Q, N): the pooled gradient at the positions of its code, 0 elsewhere; dbias (K, P, Q) its sums."""
    K, P, Q, N = dz.shape
    _, pooled_p, pooled_q, _ = gradient.shape
    for job in prange(K * pooled_p):
        k, pp = job // pooled_p, job % pooled_p
        for qq in range(pooled_q):
            g, mask = gradient[k, pp, qq], code[k, pp, qq]
            for corner in range(4):
                p, q = 2 * pp + corner // 2, 2 * qq + corner % 2
                if p < P and q < Q:
                    bit = np.uint8(1 << corner)
                    row = dz[k, p, q]
                    for n in range(N):
                        row[n] = g[n] if mask[n] & bit else np.float32(0)
                    dbias[k, p, q] = _sum(row)


@_parallel
def mask_relu(gradient, y, dz, dbias):
    """dz (K, P, Q, N): the gradient where y is not 0 (NaN included); dbias (K, P, Q) its sums over N."""
    K, P, Q, N = dz.shape
    for job in prange(K * P):
        k, p = job // P, job % P
        for q in range(Q):
            g, value, row = gradient[k, p, q], y[k, p, q], dz[k, p, q]
            for n in range(N):
                row[n] = np.float32(0) if value[n] <= 0 else g[n]
            dbias[k, p, q] = _sum(row)


@_parallel
def backward_data(dz, weight_t, dx):
    """dx (C, H, W, N) from dz (K, P, Q, N) and the weights as (K, R, S, C)."""
    K, P, Q, N = dz.shape
    _, R, S, C = weight_t.shape
    _, H, W, _ = dx.shape
    flat_z, flat_w, flat_x = dz.reshape(-1), weight_t.reshape(-1), dx.reshape(-1)
    for piece in prange(H * W * _blocks(N)):
        position, n = piece % (H * W), piece // (H * W) * BLOCK
        h, w = position // W, position % W
        z_rows = np.empty(K * R * S, np.int64)
        w_rows = np.empty(K * R * S, np.int64)
        taps = 0
        for k in range(K):
            for r in range(max(0, h - P + 1), min(R, h + 1)):
                for s in range(max(0, w - Q + 1), min(S, w + 1)):
                    z_rows[taps] = ((k * P + h - r) * Q + w - s) * N
                    w_rows[taps] = ((k * R + r) * S + s) * C
                    taps += 1
        outer(
            flat_w, 0, w_rows, C, flat_z, n, z_rows, taps,
            flat_x, position * N + n, H * W * N, min(BLOCK, N - n), False,
        )  # fmt: skip


@_parallel
def backward_weights(x, dz, dweight, parts):
    """dweight (C, R, S, K) from x (C, H, W, N) and dz (K, P, Q, N), its taps shared out in ``parts``.

    A row (q, n) of x and of dz is contiguous, so one weight is a sum of P long inner products.
    """
    C, H, W, N = x.shape
    K, P, Q, _ = dz.shape
    _, R, S, _ = dweight.shape
    x_rows, _ = _tap_rows(C, H, W, N, R, S, K)
    flat_x, flat_z, flat_w = x.reshape(-1), dz.reshape(-1), dweight.reshape(-1)
    taps, row = x_rows.size, Q * N
    for part in prange(parts):
        first, last = part * taps // parts, (part + 1) * taps // parts
        flat_w[first * K : last * K] = 0
        for p in range(P):
            for i in range(0, row, CHUNK):
                inner(
                    flat_x, p * W * N + i, x_rows, first, last,
                    flat_z, p * row + i, P * row, K, min(CHUNK, row - i), flat_w, 0, K,
                )  # fmt: skip
