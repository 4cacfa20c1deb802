"""The kernels of `triton_adapter`: an adapter forward, and back to x, for a block of ROWS rows per program.

Sizes, all known when a kernel is compiled: C blocks of M numbers in a row of x, W columns of u per block, bottleneck K.
WIDE_W and WIDE_K are W and K padded to sides that products can have; CHUNK numbers of a block are handled at a time.
Tiles are read as float32 and are zero where they stick out.
"""

import triton
import triton.language as tl


@triton.jit
def _activate(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == 0:
        a = z * tl.sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
    elif ACTIVATION == 1:
        a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    elif ACTIVATION == 2:
        a = tl.where(z < 0.0, 0.0, z)
    elif ACTIVATION == 3:
        a = z * tl.sigmoid(z)
    else:
        a = z
    return a


@triton.jit
def _slope(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == 0:
        q = tl.sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
        slope = q + z * 1.5957691216057308 * (1.0 + 0.134145 * z * z) * q * (1.0 - q)
    elif ACTIVATION == 1:
        slope = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * 0.3989422804014327 * tl.exp(-0.5 * z * z)
    elif ACTIVATION == 2:
        slope = tl.where(z > 0.0, 1.0, 0.0)
    elif ACTIVATION == 3:
        q = tl.sigmoid(z)
        slope = q + z * q * (1.0 - q)
    else:
        slope = tl.full(z.shape, 1.0, tl.float32)
    return slope


@triton.jit
def _tile(base, i, j, rows, columns, stride):
    """[len(i), len(j)] of a row-major matrix as float32, zero outside of it."""
    inside = (i[:, None] < rows) & (j[None, :] < columns)
    return tl.load(base + i[:, None] * stride + j[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _tile_t(base, i, j, rows, columns, stride):
    """The transpose of `_tile`, [len(j), len(i)]."""
    inside = (i[None, :] < rows) & (j[:, None] < columns)
    return tl.load(base + i[None, :] * stride + j[:, None], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def forward_kernel(
    x, skip, inner, mix_down, bias_down, mix_up, outer, bias_up, scale, y, u, rows,
    C: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
    HAS_SKIP: tl.constexpr, HAS_BD: tl.constexpr, HAS_BU: tl.constexpr, ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, WIDE_W: tl.constexpr, WIDE_K: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    w, k = tl.arange(0, WIDE_W), tl.arange(0, WIDE_K)
    z = tl.zeros((ROWS, WIDE_K), tl.float32)
    for block in tl.static_range(C):
        part = tl.zeros((ROWS, WIDE_W), tl.float32)
        for start in range(0, M, CHUNK):
            m = start + tl.arange(0, CHUNK)
            hidden = _tile(x + block * M, r, m, rows, M, C * M)
            part += tl.dot(hidden, _tile_t(inner, w, m, W, M, M), input_precision="ieee")
        tl.store(u + r[:, None] * C * W + block * W + w[None, :], part, mask=(r[:, None] < rows) & (w[None, :] < W))
        z += tl.dot(part, _tile(mix_down + block * W * K, w, k, W, K, K), input_precision="ieee")
    if HAS_BD:
        z += tl.load(bias_down + k, mask=k < K, other=0.0).to(tl.float32)[None, :]
    a = _activate(z, ACTIVATION)
    for block in tl.static_range(C):
        v = tl.dot(a, _tile(mix_up + block * W, k, w, K, W, C * W), input_precision="ieee")
        for start in range(0, M, CHUNK):
            m = start + tl.arange(0, CHUNK)
            o = tl.dot(v, _tile(outer, w, m, W, M, M), input_precision="ieee")
            if HAS_BU:
                o += tl.load(bias_up + block * M + m, mask=m < M, other=0.0).to(tl.float32)[None, :]
            o *= scale
            if HAS_SKIP:
                o += _tile(skip + block * M, r, m, rows, M, C * M)
            inside = (r[:, None] < rows) & (m[None, :] < M)
            tl.store(y + r[:, None] * C * M + block * M + m[None, :], o.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    g, u, inner, mix_down, bias_down, mix_up, outer, bias_up, scale, dx, dv, dz, rows,
    C: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
    ADDS_G: tl.constexpr, HAS_BD: tl.constexpr, HAS_BU: tl.constexpr, ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, WIDE_W: tl.constexpr, WIDE_K: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    w, k = tl.arange(0, WIDE_W), tl.arange(0, WIDE_K)
    z = tl.zeros((ROWS, WIDE_K), tl.float32)
    da = tl.zeros((ROWS, WIDE_K), tl.float32)
    for block in tl.static_range(C):
        part = _tile(u + block * W, r, w, rows, W, C * W)
        z += tl.dot(part, _tile(mix_down + block * W * K, w, k, W, K, K), input_precision="ieee")
        d_part = tl.zeros((ROWS, WIDE_W), tl.float32)
        for start in range(0, M, CHUNK):
            m = start + tl.arange(0, CHUNK)
            cotangent = _tile(g + block * M, r, m, rows, M, C * M)
            d_part += tl.dot(cotangent, _tile_t(outer, w, m, W, M, M), input_precision="ieee")
        d_part *= scale
        tl.store(dv + r[:, None] * C * W + block * W + w[None, :], d_part, mask=(r[:, None] < rows) & (w[None, :] < W))
        da += tl.dot(d_part, _tile_t(mix_up + block * W, k, w, K, W, C * W), input_precision="ieee")
    if HAS_BD:
        z += tl.load(bias_down + k, mask=k < K, other=0.0).to(tl.float32)[None, :]
    slope = da * _slope(z, ACTIVATION)
    tl.store(dz + r[:, None] * K + k[None, :], slope, mask=(r[:, None] < rows) & (k[None, :] < K))
    for block in tl.static_range(C):
        du = tl.dot(slope, _tile_t(mix_down + block * W * K, w, k, W, K, K), input_precision="ieee")
        for start in range(0, M, CHUNK):
            m = start + tl.arange(0, CHUNK)
            gradient = tl.dot(du, _tile(inner, w, m, W, M, M), input_precision="ieee")
            if ADDS_G:
                gradient += _tile(g + block * M, r, m, rows, M, C * M)
            inside = (r[:, None] < rows) & (m[None, :] < M)
            tl.store(dx + r[:, None] * C * M + block * M + m[None, :], gradient.to(dx.dtype.element_ty), mask=inside)
