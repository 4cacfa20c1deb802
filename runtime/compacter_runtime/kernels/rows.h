/* The end of a sublayer on consecutive rows: delta = act(x Wd + bd) Wu + bu, and y is delta, r + (x + delta), or the layer
   norm of that. All matrices are row-major and float32. */
#ifndef COMPACTER_ROWS_H
#define COMPACTER_ROWS_H

#include <stdlib.h>

#include "vectors.h"

#define TILE 6      /* rows handled at a time, with two vectors of sums each: as many as registers hold */
#define PAIR (2 * LANES)

/* r is NULL where y is delta; gain and shift where there is no norm; bd, bu and b where there are none. b is added to bu. y
   may be r. Weights
   are Wd and Wu, or else factors as in `factors.h`, with n = d / m. */
typedef struct {
    long d, k, m, w_down, w_up, activation;
    float epsilon;
    const float *x, *r, *Wd, *bd, *Wu, *bu, *b, *gain, *shift, *left, *mix_down, *mix_up, *right;
    float *y;
} adapter;

INLINE long padded(long k) { return (k + PAIR - 1) / PAIR * PAIR; }

INLINE vec load_or_zero(const float *from, long count) { return from ? load(from, count) : (vec){0}; }

/* b + bu at a column. */
INLINE vec last_bias(const adapter *of, long column, long count) {
    vec bias = load_or_zero(of->bu ? of->bu + column : NULL, count);
    return of->b ? load(of->b + column, count) + bias : bias;
}

/* Two sums for each row from the columns of Wd that begin at w: for each of d numbers, LANES that follow each other are
   read. What lies beyond a row of Wd gives sums that nobody reads; nothing beyond the matrix is read. */
INLINE void down_pair(const adapter *of, const float *x[TILE], const float *w, vec sum[2][TILE]) {
    const float *end = of->Wd + of->d * of->k;
    long i = 0;
    for (; i < of->d && w + i * of->k + PAIR <= end; i++) {
        vec left = load(w + i * of->k, LANES), right = load(w + i * of->k + LANES, LANES);
        for (int t = 0; t < TILE; t++) sum[0][t] += x[t][i] * left;
        for (int t = 0; t < TILE; t++) sum[1][t] += x[t][i] * right;
    }
    for (; i < of->d; i++) {
        long left = end - (w + i * of->k);
        vec one = load(w + i * of->k, least(left, LANES)), other = {0};
        if (left > LANES) other = load(w + i * of->k + LANES, left - LANES);
        for (int t = 0; t < TILE; t++) sum[0][t] += x[t][i] * one;
        for (int t = 0; t < TILE; t++) sum[1][t] += x[t][i] * other;
    }
}

/* As `down_pair`, for the last columns, no more than LANES; even and odd numbers of x have sums of their own. */
INLINE void down_last(const adapter *of, const float *x[TILE], const float *w, vec sum[2][TILE]) {
    const float *end = of->Wd + of->d * of->k;
    long i = 0;
    for (; i + 1 < of->d && w + (i + 1) * of->k + LANES <= end; i += 2) {
        vec even = load(w + i * of->k, LANES), odd = load(w + (i + 1) * of->k, LANES);
        for (int t = 0; t < TILE; t++) sum[0][t] += x[t][i] * even;
        for (int t = 0; t < TILE; t++) sum[1][t] += x[t][i + 1] * odd;
    }
    for (; i < of->d; i++) {
        vec even = load(w + i * of->k, least(end - (w + i * of->k), LANES));
        for (int t = 0; t < TILE; t++) sum[0][t] += x[t][i] * even;
    }
}

/* a [TILE, padded(k)] = act(x Wd + bd), with numbers beyond k that mean nothing. */
INLINE void down(const adapter *of, const float *x[TILE], float *a) {
    long k = of->k, width = padded(k);
    for (long j = 0; j < k; j += PAIR) {
        vec sum[2][TILE] = {{{0}}};
        long here = k - j;
        if (here > LANES) {
            down_pair(of, x, of->Wd + j, sum);
        } else {
            down_last(of, x, of->Wd + j, sum);
            for (int t = 0; t < TILE; t++) sum[0][t] += sum[1][t];
        }
        vec bias = load_or_zero(of->bd ? of->bd + j : NULL, least(here, LANES)), next = {0};
        if (here > LANES) next = load_or_zero(of->bd ? of->bd + j + LANES : NULL, least(here - LANES, LANES));
        for (int t = 0; t < TILE; t++) {
            store(a + t * width + j, activated(of->activation, sum[0][t] + bias), LANES);
            if (here > LANES) store(a + t * width + j + LANES, activated(of->activation, sum[1][t] + next), LANES);
        }
    }
}

INLINE void finish(const adapter *of, long at, vec sum, long count) {
    if (of->r) sum = load(of->r + at, count) + (load(of->x + at, count) + sum);
    store(of->y + at, sum, count);
}

/* Rows of y, of which there are `rows` from `first`, at columns of which there are `vectors` times `count` from j. */
INLINE void up(const adapter *of, const float *a, long first, long rows, long j, int vectors, long count) {
    vec sum[2][TILE];
    long width = padded(of->k);
    for (int v = 0; v < vectors; v++)
        for (int t = 0; t < TILE; t++) sum[v][t] = (vec){0};
    for (long i = 0; i < of->k; i++) {
        vec w[2];
        for (int v = 0; v < vectors; v++) w[v] = load(of->Wu + i * of->d + j + v * LANES, count);
        for (int t = 0; t < TILE; t++)
            for (int v = 0; v < vectors; v++) sum[v][t] += a[t * width + i] * w[v];
    }
    for (int v = 0; v < vectors; v++) {
        long column = j + v * LANES;
        vec bias = last_bias(of, column, count);
        for (long t = 0; t < rows; t++) finish(of, (first + t) * of->d + column, sum[v][t] + bias, count);
    }
}

/* Numbers from y + j that are not beyond the row, less the mean. */
INLINE vec centred(const float *y, long j, long count, vec mean) {
    vec v = load(y + j, count);
    if (count == LANES) return v - mean;
    float less[LANES] = {0};
    for (long i = 0; i < count; i++) less[i] = mean[0];
    return v - load(less, LANES);
}

/* Summands of y - mean, or of its squares; four sums at a time, for each addition waits for the one before. */
INLINE vec moment(const float *y, long d, vec mean, int is_squared) {
    vec sum[4] = {{0}};
    long j = 0;
    for (; j + 4 * LANES <= d; j += 4 * LANES)
        for (int i = 0; i < 4; i++) {
            vec v = load(y + j + i * LANES, LANES) - mean;
            sum[i] += is_squared ? v * v : v;
        }
    for (; j < d; j += LANES) {
        vec v = centred(y, j, least(d - j, LANES), mean);
        sum[0] += is_squared ? v * v : v;
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

INLINE void rescale(const adapter *of, float *y, long rows, const float *mean, const float *scale, long j, long count) {
    vec gain = load(of->gain + j, count), shift = load(of->shift + j, count);
    for (long t = 0; t < rows; t++, y += of->d)
        store(y + j, (load(y + j, count) - filled(mean[t])) * filled(scale[t]) * gain + shift, count);
}

/* y = (y - mean) / sqrt(variance + epsilon) gain + shift of at most TILE rows, so that no row waits for another's sums. */
INLINE void norm(const adapter *of, float *y, long rows) {
    vec sums[16] = {{0}};
    float mean[16], scale[16];
    long d = of->d, j = 0;
    for (long t = 0; t < rows; t++) sums[t] = moment(y + t * d, d, filled(0), 0);
    sum_each(sums, mean);
    for (long t = 0; t < rows; t++) mean[t] /= d;
    for (long t = 0; t < rows; t++) sums[t] = moment(y + t * d, d, filled(mean[t]), 1);
    sum_each(sums, scale);
    for (long t = 0; t < rows; t++) scale[t] = 1 / sqrtf(scale[t] / d + of->epsilon);
    for (; j + LANES <= d; j += LANES) rescale(of, y, rows, mean, scale, j, LANES);
    if (j < d) rescale(of, y, rows, mean, scale, j, d - j);
}

/* A tile that sticks out computes its last row again and writes it once. Needs TILE * padded(k) numbers of memory. */
static void adapt(const adapter *of, long first, long end, float *a) {
    for (; first < end; first += TILE) {
        const float *x[TILE];
        long rows = least(TILE, end - first), j = 0;
        for (long t = 0; t < TILE; t++) x[t] = of->x + (first + least(t, rows - 1)) * of->d;
        down(of, x, a);
        for (; j + PAIR <= of->d; j += PAIR) up(of, a, first, rows, j, 2, LANES);
        for (; j + LANES <= of->d; j += LANES) up(of, a, first, rows, j, 1, LANES);
        if (j < of->d) up(of, a, first, rows, j, 1, of->d - j);
        if (of->gain) norm(of, of->y + first * of->d, rows);
    }
}

#endif
