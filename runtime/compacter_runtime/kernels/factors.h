/* Projections whose weight comes in factors: W^T is the matrix M P [(out-index, block), place] read as rows of n blocks,

       down   z_j = sum_{a,i} M[j, a, i] u[a, i] + bd_j,    u[a, i] = sum_p P[i, p] x[a, p]
       up     y[b, p] = sum_i v[b, i] P[i, p] + bu[b, p],   v[b, i] = sum_j M[j, b, i] a_j

   with x and y split into n blocks of m numbers, a and b counting blocks, and i of w numbers within a factor. For a
   Compacter w is n r, which is less than k: d w products in the place of d k. */
#ifndef COMPACTER_FACTORS_H
#define COMPACTER_FACTORS_H

#include "rows.h"

#define BLOCKS 4 /* blocks of rows, and rows of P, handled at a time */

/* What `adapt_factors` needs for TILE rows. */
typedef struct {
    float *u, *v, *mixing, *a;
} scratch;

INLINE long count_blocks(const adapter *of) { return of->m ? of->d / of->m : 0; }

/* How many numbers `scratch_in` hands out. */
static long scratch_size(const adapter *of) {
    long n = count_blocks(of), k = padded(of->k);
    return TILE * (n * of->w_down + n * of->w_up + k) + n * of->w_down * k + PAIR;
}

static scratch scratch_in(const adapter *of, float *memory) {
    long n = count_blocks(of);
    scratch s = {.mixing = memory};
    s.a = s.mixing + n * of->w_down * padded(of->k);
    s.u = s.a + TILE * padded(of->k);
    s.v = s.u + TILE * n * of->w_down;
    return s;
}

/* mixing [n w, padded(k)], zeros beyond k, is the transpose of M [k, n w]. */
static void turn(const adapter *of, float *mixing) {
    long size = count_blocks(of) * of->w_down, width = padded(of->k);
    for (long i = 0; i < size; i++)
        for (long j = 0; j < width; j++) mixing[i * width + j] = j < of->k ? of->Md[j * size + i] : 0;
}

INLINE void enter_vector(vec sum[BLOCKS * BLOCKS], const float *x[BLOCKS], const float *p[BLOCKS], long at, long count) {
    vec q[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) q[i] = load(p[i] + at, count);
    for (int b = 0; b < BLOCKS; b++) {
        vec number = load(x[b] + at, count);
        for (int i = 0; i < BLOCKS; i++) sum[b * BLOCKS + i] += number * q[i];
    }
}

/* u [blocks, w] = x [blocks, m] P^T. A tile that sticks out repeats its last line. */
INLINE void enter(const float *x, const float *P, float *u, long blocks, long m, long w) {
    for (long b = 0; b < blocks; b += BLOCKS)
        for (long i = 0; i < w; i += BLOCKS) {
            const float *from[BLOCKS], *p[BLOCKS];
            vec sum[BLOCKS * BLOCKS] = {{0}};
            float totals[BLOCKS * BLOCKS];
            long at = 0;
            for (int t = 0; t < BLOCKS; t++) {
                from[t] = x + least(b + t, blocks - 1) * m;
                p[t] = P + least(i + t, w - 1) * m;
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

/* v [rows, n w] = a [rows, padded(k)] M. */
INLINE void mix_up(const adapter *of, const float *a, float *v, long rows) {
    long size = count_blocks(of) * of->w_up, width = padded(of->k), j = 0;
    for (; j < size; j += LANES) {
        long count = least(size - j, LANES);
        vec sum[TILE] = {{0}};
        for (long i = 0; i < of->k; i++) {
            vec row = count == LANES ? load(of->Mu + i * size + j, LANES) : load(of->Mu + i * size + j, count);
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
        vec p = load(of->Pu + i * of->m + at, count);
        for (int b = 0; b < BLOCKS; b++) sum[b] += v[b][i] * p;
    }
    for (int b = 0; b < BLOCKS; b++)
        if (b < blocks)
            finish(of, to[b] + at, sum[b] + load_or_zero(of->bu ? of->bu + column[b] + at : NULL, count), count);
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
    turn(of, s.mixing);
    for (; first < end; first += TILE) {
        long rows = least(TILE, end - first);
        enter(of->x + first * of->d, of->Pd, s.u, rows * n, of->m, of->w_down);
        mix_down(of, s.u, s.mixing, s.a, rows);
        mix_up(of, s.a, s.v, rows);
        leave(of, s.v, first, rows);
        if (of->gain) norm(of, of->y + first * of->d, rows);
    }
}

#endif
