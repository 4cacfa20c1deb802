/* Products of what is wide and of what is narrow. Hidden states are read as block rows, [rows n, m], a tile of which is
   handled at a time, so that P and Q stay in registers. */
#ifndef CPU_PRODUCTS_H
#define CPU_PRODUCTS_H

#include "vectors.h"

#define TILE 4     /* block rows, and rows of P, handled at a time */
#define AHEAD 1536 /* numbers that are fetched into the cache before they are asked for */

/* ---- Block rows. A tile that sticks out repeats the last line and drops what comes of it. ---- */

INLINE void enter_vector(vec sum[TILE][TILE], const float *h[TILE], const float *p[TILE], long j, long count) {
    vec q[TILE];
    for (int t = 0; t < TILE; t++) q[t] = load(p[t] + j, count);
    for (int t = 0; t < TILE; t++) {
        __builtin_prefetch(h[t] + j + AHEAD, 0);
        vec number = load(h[t] + j, count);
        for (int i = 0; i < TILE; i++) sum[t][i] += number * q[i];
    }
}

/* u [rows, w] = x [rows, m] P^T. */
static void enter(const float *restrict x, const float *restrict P, float *restrict u, long rows, long m, long w) {
    for (long b = 0; b < rows; b += TILE)
        for (long i = 0; i < w; i += TILE) {
            const float *h[TILE], *p[TILE];
            vec sum[TILE][TILE] = {{{0}}};
            long j = 0;
            for (int t = 0; t < TILE; t++) {
                h[t] = x + least(b + t, rows - 1) * m;
                p[t] = P + least(i + t, w - 1) * m;
            }
            for (; j + LANES <= m; j += LANES) enter_vector(sum, h, p, j, LANES);
            if (j < m) enter_vector(sum, h, p, j, m - j);
            for (int t = 0; t < TILE && b + t < rows; t++)
                for (int c = 0; c < TILE && i + c < w; c++) u[(b + t) * w + i + c] = total(sum[t][c]);
        }
}

INLINE void leave_vector(const float *v[TILE], const float *Q, const float *bias[TILE], const float *skip[TILE],
                         float *y[TILE], long m, long w, long j, long count) {
    vec sum[TILE];
    for (int t = 0; t < TILE; t++) sum[t] = bias[t] ? load(bias[t] + j, count) : (vec){0};
    for (long i = 0; i < w; i++) {
        vec q = load(Q + i * m + j, count);
        for (int t = 0; t < TILE; t++) sum[t] += v[t][i] * q;
    }
    /* The same number twice where the tile sticks out. */
    for (int t = 0; t < TILE; t++) {
        __builtin_prefetch(y[t] + j + AHEAD, 1);
        store(y[t] + j, skip[t] ? sum[t] + load(skip[t] + j, count) : sum[t], count);
    }
}

/* y [rows, m] = skip + (bias [n, m], repeated, + v [rows, w] Q), what is in brackets rounded apart from skip. */
static void leave(const float *v, const float *Q, const float *bias, const float *skip, float *y, long rows, long n,
                  long m, long w) {
    for (long b = 0; b < rows; b += TILE) {
        const float *from[TILE], *ground[TILE], *onto[TILE];
        float *to[TILE];
        long j = 0;
        for (int t = 0; t < TILE; t++) {
            long row = least(b + t, rows - 1);
            from[t] = v + row * w;
            ground[t] = bias ? bias + row % n * m : NULL;
            onto[t] = skip ? skip + row * m : NULL;
            to[t] = y + row * m;
        }
        for (; j + LANES <= m; j += LANES) leave_vector(from, Q, ground, onto, to, m, w, j, LANES);
        if (j < m) leave_vector(from, Q, ground, onto, to, m, w, j, m - j);
    }
}

INLINE void gather_vector(const float *v, const float *x, float *dQ, long rows, long m, long w, long i, long j,
                          long count) {
    vec sum[TILE];
    long line[TILE];
    for (int t = 0; t < TILE; t++) {
        line[t] = least(i + t, w - 1);
        sum[t] = load(dQ + line[t] * m + j, count);
    }
    for (long b = 0; b < rows; b++) {
        vec number = load(x + b * m + j, count);
        for (int t = 0; t < TILE; t++) sum[t] += v[b * w + line[t]] * number;
    }
    for (int t = 0; t < TILE; t++) store(dQ + line[t] * m + j, sum[t], count);
}

/* dQ [w, m] += v [rows, w]^T x [rows, m]. */
static void gather(const float *restrict v, const float *restrict x, float *restrict dQ, long rows, long m, long w) {
    for (long i = 0; i < w; i += TILE) {
        long j = 0;
        for (; j + LANES <= m; j += LANES) gather_vector(v, x, dQ, rows, m, w, i, j, LANES);
        if (j < m) gather_vector(v, x, dQ, rows, m, w, i, j, m - j);
    }
}

/* out [width] += 1^T x [rows, width]. */
static void add_up(const float *restrict x, float *restrict out, long rows, long width) {
    for (long b = 0; b < rows; b++)
        for (long j = 0; j < width; j++) out[j] += x[b * width + j];
}

/* ---- Rows. ---- */

/* out [rows, b] = bias + in [rows, a] M [a, b]. */
static void mix(const float *restrict in, const float *restrict M, const float *restrict bias, float *restrict out,
                long rows, long a, long b) {
    for (long row = 0; row < rows; row++, in += a, out += b) {
        for (long j = 0; j < b; j++) out[j] = bias ? bias[j] : 0;
        for (long i = 0; i < a; i++)
            for (long j = 0; j < b; j++) out[j] += in[i] * M[i * b + j];
    }
}

/* dM [a, b] += in [rows, a]^T out [rows, b]. */
static void mix_back(const float *restrict in, const float *restrict out, float *restrict dM, long rows, long a,
                     long b) {
    for (long row = 0; row < rows; row++, in += a, out += b)
        for (long i = 0; i < a; i++)
            for (long j = 0; j < b; j++) dM[i * b + j] += in[i] * out[j];
}

/* a = act(z), and where da is given, da becomes da act'(z). */
static void activate(long kind, const float *z, float *a, float *da, long count) {
    for (long j = 0; j < count; j += LANES) {
        long here = least(count - j, LANES);
        vec of = load(z + j, here);
        store(a + j, activated(kind, of), here);
        if (da) store(da + j, load(da + j, here) * slope(kind, of), here);
    }
}

static void transpose(const float *restrict from, float *restrict to, long rows, long columns) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

#endif
