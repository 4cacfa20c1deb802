/* Projections whose weights come in factors, with x and y split into n blocks of m numbers, a and b counting blocks and i of
   w numbers within a factor:

       down   z_j = sum_{a,i} u[a, i] mix_down[a, i, j] + bd_j,     u[a, i] = sum_p x[a, p] left[p, i]
       up     y[b, p] = sum_i v[b, i] right[i, p] + bu[b, p],       v[b, i] = sum_j a_j mix_up[j, b, i]

   For a Compacter w is n r, which is less than k: d w products for each row in the place of d k. */
#ifndef COMPACTER_FACTORS_H
#define COMPACTER_FACTORS_H

#include "rows.h"

#define BLOCKS 4 /* blocks of rows, and columns of left, handled at a time */

/* What `adapt_factors` needs for TILE rows: left turned around, mix_down with rows of whole vectors, and u, a and v. */
typedef struct {
    float *left, *mixing, *u, *a, *v;
} scratch;

INLINE long count_blocks(const adapter *of) { return of->m ? of->d / of->m : 0; }

/* How many numbers `scratch_in` hands out. */
static long scratch_size(const adapter *of) {
    long n = count_blocks(of), k = padded(of->k);
    return of->w_down * of->m + n * of->w_down * k + TILE * (n * of->w_down + k + n * of->w_up) + 1;
}

static scratch scratch_in(const adapter *of, float *memory) {
    long n = count_blocks(of), k = padded(of->k);
    scratch s = {.left = memory};
    s.mixing = s.left + of->w_down * of->m;
    s.u = s.mixing + n * of->w_down * k;
    s.a = s.u + TILE * n * of->w_down;
    s.v = s.a + TILE * k;
    return s;
}

INLINE void turn_columns(const float *left, float *turned, long m, long w) {
    for (long i = 0; i < w; i++)
        for (long p = 0; p < m; p++) turned[i * m + p] = left[p * w + i];
}

static void prepare(const adapter *of, scratch s) {
    long size = count_blocks(of) * of->w_down, width = padded(of->k);
    if (of->w_down == BLOCKS) /* the compiler has an answer to strides that it knows */
        turn_columns(of->left, s.left, of->m, BLOCKS);
    else
        turn_columns(of->left, s.left, of->m, of->w_down);
    for (long i = 0; i < size; i++)
        for (long j = 0; j < width; j++) s.mixing[i * width + j] = j < of->k ? of->mix_down[i * of->k + j] : 0;
}

INLINE void enter_vector(vec sum[BLOCKS * BLOCKS], const float *x[BLOCKS], const float *p[BLOCKS], long at, long count) {
    vec q[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) q[i] = load(p[i] + at, count);
    for (int b = 0; b < BLOCKS; b++) {
        vec number = load(x[b] + at, count);
        for (int i = 0; i < BLOCKS; i++) sum[b * BLOCKS + i] += number * q[i];
    }
}

/* u [blocks, w] = x [blocks, m] left, which is turned around. A tile that sticks out repeats its last line. */
INLINE void enter(const float *x, const float *left, float *u, long blocks, long m, long w) {
    for (long b = 0; b < blocks; b += BLOCKS)
        for (long i = 0; i < w; i += BLOCKS) {
            const float *from[BLOCKS], *p[BLOCKS];
            vec sum[BLOCKS * BLOCKS] = {{0}};
            float totals[BLOCKS * BLOCKS];
            long at = 0;
            for (int t = 0; t < BLOCKS; t++) {
                from[t] = x + least(b + t, blocks - 1) * m;
                p[t] = left + least(i + t, w - 1) * m;
            }
            for (; at + LANES <= m; at += LANES) enter_vector(sum, from, p, at, LANES);
            if (at < m) enter_vector(sum, from, p, at, m - at);
            sum_each(sum, totals);
            for (int t = 0; t < BLOCKS && b + t < blocks; t++)
                for (int c = 0; c < BLOCKS && i + c < w; c++) u[(b + t) * w + i + c] = totals[t * BLOCKS + c];
        }
}

/* a [rows, padded(k)] = act(u [rows, n w] mixing + bd). */
INLINE void mix_down(const adapter *of, const float *u, const float *mixing, float *a, long rows) {
    long size = count_blocks(of) * of->w_down, width = padded(of->k);
    for (long j = 0; j < of->k; j += LANES) {
        vec bias = load_or_zero(of->bd ? of->bd + j : NULL, least(of->k - j, LANES)), sum[TILE];
        for (int t = 0; t < TILE; t++) sum[t] = bias;
        for (long i = 0; i < size; i++) {
            vec row = load(mixing + i * width + j, LANES);
            for (int t = 0; t < TILE; t++) sum[t] += u[least(t, rows - 1) * size + i] * row;
        }
        for (int t = 0; t < TILE; t++) store(a + t * width + j, activated(of->activation, sum[t]), LANES);
    }
}

/* v [rows, n w] = a [rows, padded(k)] mix_up. */
INLINE void mix_up(const adapter *of, const float *a, float *v, long rows) {
    long size = count_blocks(of) * of->w_up, width = padded(of->k), j = 0;
    for (; j < size; j += LANES) {
        long count = least(size - j, LANES);
        vec sum[TILE] = {{0}};
        for (long i = 0; i < of->k; i++) {
            vec row = count == LANES ? load(of->mix_up + i * size + j, LANES) : load(of->mix_up + i * size + j, count);
            for (int t = 0; t < TILE; t++) sum[t] += a[t * width + i] * row;
        }
        for (long t = 0; t < rows; t++) store(v + t * size + j, sum[t], count);
    }
}

/* Of `blocks` blocks, whose places in y, v and bu are given. */
INLINE void leave_vector(const adapter *of, const float *v[BLOCKS], const long *to, const long *column, long blocks,
                         long at, long count) {
    vec sum[BLOCKS] = {{0}};
    for (long i = 0; i < of->w_up; i++) {
        vec p = load(of->right + i * of->m + at, count);
        for (int b = 0; b < BLOCKS; b++) sum[b] += v[b][i] * p;
    }
    for (int b = 0; b < BLOCKS; b++)
        if (b < blocks) finish(of, to[b] + at, sum[b] + last_bias(of, column[b] + at, count), count);
}

/* y of rows from `first`, from v [rows, n w]. */
INLINE void leave(const adapter *of, const float *v, long first, long rows) {
    long n = count_blocks(of), blocks = rows * n;
    for (long b = 0; b < blocks; b += BLOCKS) {
        const float *from[BLOCKS];
        long to[BLOCKS], column[BLOCKS], here = blocks - b, at = 0;
        for (int t = 0; t < BLOCKS; t++) {
            long block = least(b + t, blocks - 1);
            from[t] = v + block * of->w_up;
            to[t] = first * of->d + block * of->m;
            column[t] = block % n * of->m;
        }
        if (here >= BLOCKS)
            for (; at + LANES <= of->m; at += LANES) leave_vector(of, from, to, column, BLOCKS, at, LANES);
        for (; at + LANES <= of->m; at += LANES) leave_vector(of, from, to, column, here, at, LANES);
        if (at < of->m) leave_vector(of, from, to, column, here, at, of->m - at);
    }
}

/* As `adapt`, with the weights in factors. */
static void adapt_factors(const adapter *given, long first, long end, float *memory) {
    const adapter copy = *given, *of = &copy; /* what is stored through pointers cannot change it */
    scratch s = scratch_in(of, memory);
    long n = count_blocks(of);
    prepare(of, s);
    for (; first < end; first += TILE) {
        long rows = least(TILE, end - first);
        enter(of->x + first * of->d, s.left, s.u, rows * n, of->m, of->w_down);
        mix_down(of, s.u, s.mixing, s.a, rows);
        mix_up(of, s.a, s.v, rows);
        leave(of, s.v, first, rows);
        if (of->gain) norm(of, of->y + first * of->d, rows);
    }
}

#endif
