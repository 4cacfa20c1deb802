/* The kernels of `cpu_adapter`: an adapter in one pass over hidden states each way.

   Symbols as in `fused` and `factors`: rows of n blocks of m numbers, rank r, w = n r, bottleneck k = n q; low_rank is
   lphm with n = 1 and A = 1. All matrices are row-major. Hidden states are read as block rows, [rows n, m], a tile of
   which is handled at a time, so that P and Q stay in registers; a chunk of rows stays in the cache while everything is
   done that needs it. A thread takes consecutive rows and has sums of its own, which are added in the order of threads,
   so that results do not depend on which one is first.
*/
#include <omp.h>
#include <stdlib.h>

#include "cpu_vectors.h"

#define TILE 4     /* block rows, and rows of P, handled at a time */
#define CHUNK 6144 /* numbers of hidden states in a chunk: half of a first-level cache */
#define AHEAD 1536 /* numbers that are fetched into the cache before they are asked for */

/* A projection, or its gradients: A [n, n, n], NULL for 1; left [n, in, r]; right [n, r, out]; a bias, NULL for none. */
typedef struct {
    float *rule, *left, *right, *bias;
} projection;

/* What a call is given, in the order of `cpu_adapter`. skip is NULL for 0, u for what is not kept; gradients are zero. */
typedef struct {
    long rows, n, m, r, q, activation, threads;
    double scale;
    const float *x, *skip, *g;
    float *u, *y, *dx;
    projection down, up, d_down, d_up;
} call;

/* An adapter as `factors` splits it, or its gradients: P and Q [w, m], mixings [n w, k] and [k, n w], biases. */
typedef struct {
    float *P, *mix_down, *bias_down, *mix_up, *Q, *bias_up;
} narrow;

/* What follows from sizes: w, n w, k, d. */
typedef struct {
    long w, nw, k, d;
} widths;

static widths widths_of(const call *s) {
    widths l = {s->n * s->r, s->n * s->n * s->r, s->n * s->q, s->n * s->m};
    return l;
}

static long narrow_size(const call *s) {
    widths l = widths_of(s);
    return 2 * l.w * s->m + 2 * l.nw * l.k + l.k + l.d;
}

static narrow narrow_at(const call *s, float *start) {
    widths l = widths_of(s);
    narrow t = {.P = start};
    t.mix_down = t.P + l.w * s->m;
    t.bias_down = t.mix_down + l.nw * l.k;
    t.mix_up = t.bias_down + l.k;
    t.Q = t.mix_up + l.k * l.nw;
    t.bias_up = t.Q + l.w * s->m;
    return t;
}

static float rule_at(const projection *of, long n, long i, long a, long b) {
    return of->rule ? of->rule[(i * n + a) * n + b] : 1;
}

/* mix_down[(a i p), (b j)] = A[i, a, b] right[i, p, j], mix_up[(a j), (b i p)] = A[i, a, b] left[i, j, p], P[(i p), j] =
   left[i, j, p], Q and bias_up with the scaling. */
static narrow split(const call *s, float *start) {
    const projection *down = &s->down, *up = &s->up;
    long n = s->n, m = s->m, r = s->r, q = s->q;
    widths l = widths_of(s);
    narrow t = narrow_at(s, start);
    for (long i = 0; i < n; i++)
        for (long p = 0; p < r; p++) {
            for (long j = 0; j < m; j++) t.P[(i * r + p) * m + j] = down->left[(i * m + j) * r + p];
            for (long a = 0; a < n; a++)
                for (long b = 0; b < n; b++)
                    for (long j = 0; j < q; j++) {
                        float to_down = down->right[(i * r + p) * q + j], to_up = up->left[(i * q + j) * r + p];
                        t.mix_down[((a * n + i) * r + p) * l.k + b * q + j] = rule_at(down, n, i, a, b) * to_down;
                        t.mix_up[(a * q + j) * l.nw + (b * n + i) * r + p] = rule_at(up, n, i, a, b) * to_up;
                    }
        }
    for (long j = 0; j < l.w * m; j++) t.Q[j] = (float)s->scale * up->right[j];
    for (long j = 0; down->bias && j < l.k; j++) t.bias_down[j] = down->bias[j];
    for (long j = 0; up->bias && j < l.d; j++) t.bias_up[j] = (float)s->scale * up->bias[j];
    return t;
}

/* The gradients of what `split` reads, given those of what it makes. */
static void split_back(const call *s, narrow g) {
    const projection *down = &s->down, *up = &s->up, *d_down = &s->d_down, *d_up = &s->d_up;
    long n = s->n, m = s->m, r = s->r, q = s->q;
    widths l = widths_of(s);
    for (long i = 0; i < n; i++)
        for (long p = 0; p < r; p++) {
            for (long j = 0; j < m; j++) d_down->left[(i * m + j) * r + p] = g.P[(i * r + p) * m + j];
            for (long a = 0; a < n; a++)
                for (long b = 0; b < n; b++)
                    for (long j = 0; j < q; j++) {
                        long at_right = (i * r + p) * q + j, at_left = (i * q + j) * r + p, at = (i * n + a) * n + b;
                        float of_down = g.mix_down[((a * n + i) * r + p) * l.k + b * q + j];
                        float of_up = g.mix_up[(a * q + j) * l.nw + (b * n + i) * r + p];
                        d_down->right[at_right] += rule_at(down, n, i, a, b) * of_down;
                        d_up->left[at_left] += rule_at(up, n, i, a, b) * of_up;
                        if (d_down->rule) d_down->rule[at] += down->right[at_right] * of_down;
                        if (d_up->rule) d_up->rule[at] += up->left[at_left] * of_up;
                    }
        }
    for (long j = 0; j < l.w * m; j++) d_up->right[j] = (float)s->scale * g.Q[j];
    for (long j = 0; d_down->bias && j < l.k; j++) d_down->bias[j] = g.bias_down[j];
    for (long j = 0; d_up->bias && j < l.d; j++) d_up->bias[j] = (float)s->scale * g.bias_up[j];
}

static void transpose(const float *restrict from, float *restrict to, long rows, long columns) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

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

/* ---- Passes: a chunk of rows, from first. ---- */

static void forward_chunk(const call *s, narrow t, long first, long count) {
    widths l = widths_of(s);
    float u_here[count * l.nw], v[count * l.nw], z[count * l.k], a[count * l.k];
    float *u = s->u ? s->u + first * l.nw : u_here;
    const float *skip = s->skip ? s->skip + first * l.d : NULL;
    enter(s->x + first * l.d, t.P, u, count * s->n, s->m, l.w);
    mix(u, t.mix_down, s->down.bias ? t.bias_down : NULL, z, count, l.nw, l.k);
    activate(s->activation, z, a, NULL, count * l.k);
    mix(a, t.mix_up, NULL, v, count, l.k, l.nw);
    leave(v, t.Q, s->up.bias ? t.bias_up : NULL, skip, s->y + first * l.d, count * s->n, s->n, s->m, l.w);
}

/* Needs the transposes of both mixings. Adds to d what the rows give. */
static void backward_chunk(const call *s, narrow t, const float *mix_down_t, const float *mix_up_t, narrow d,
                           long first, long count) {
    widths l = widths_of(s);
    float u_here[count * l.nw], v[count * l.nw], dv[count * l.nw], z[count * l.k], a[count * l.k], da[count * l.k];
    const float *x = s->x + first * l.d, *g = s->g + first * l.d, *u = u_here;
    if (s->u)
        u = s->u + first * l.nw;
    else
        enter(x, t.P, u_here, count * s->n, s->m, l.w);
    mix(u, t.mix_down, s->down.bias ? t.bias_down : NULL, z, count, l.nw, l.k);
    enter(g, t.Q, dv, count * s->n, s->m, l.w);
    mix(dv, mix_up_t, NULL, da, count, l.nw, l.k);
    activate(s->activation, z, a, da, count * l.k);
    mix(a, t.mix_up, NULL, v, count, l.k, l.nw);
    mix_back(a, dv, d.mix_up, count, l.k, l.nw);
    gather(v, g, d.Q, count * s->n, s->m, l.w);
    if (s->up.bias) add_up(g, d.bias_up, count, l.d);

    float *du = v, *dz = da; /* v is done with; da is da act'(z) by now */
    mix(dz, mix_down_t, NULL, du, count, l.k, l.nw);
    mix_back(u, dz, d.mix_down, count, l.nw, l.k);
    if (s->down.bias) add_up(dz, d.bias_down, count, l.k);
    leave(du, t.P, NULL, s->skip ? g : NULL, s->dx + first * l.d, count * s->n, s->n, s->m, l.w);
    gather(du, x, d.P, count * s->n, s->m, l.w);
}

typedef struct {
    long first, end, chunk;
} share;

/* Of the calling thread; a runtime may give fewer threads than it was asked for. */
static share of_thread(const call *s) {
    long thread = omp_get_thread_num(), threads = omp_get_num_threads(), chunk = CHUNK / (s->n * s->m);
    share its = {s->rows * thread / threads, s->rows * (thread + 1) / threads, chunk > 1 ? chunk : 1};
    return its;
}

/* y = skip + scale (act(x Wd + bd) Wu + bu), and u. Returns whether there was memory. */
int forward(const call *s) {
    float *memory = malloc(sizeof(float) * narrow_size(s));
    if (!memory) return 0;
    narrow t = split(s, memory);
#pragma omp parallel num_threads((int)s->threads)
    for (share its = of_thread(s); its.first < its.end; its.first += its.chunk)
        forward_chunk(s, t, its.first, least(its.chunk, its.end - its.first));
    free(memory);
    return 1;
}

/* dx, with g where there is a skip, which is x then; and the gradients of the tensors. Returns whether there was memory. */
int backward(const call *s) {
    long size = narrow_size(s), mixing = widths_of(s).nw * widths_of(s).k;
    float *memory = calloc((1 + s->threads) * size + 2 * mixing, sizeof(float));
    if (!memory) return 0;
    float *sums = memory + size, *mix_down_t = sums + s->threads * size, *mix_up_t = mix_down_t + mixing;
    narrow t = split(s, memory);
    transpose(t.mix_down, mix_down_t, widths_of(s).nw, widths_of(s).k);
    transpose(t.mix_up, mix_up_t, widths_of(s).k, widths_of(s).nw);
#pragma omp parallel num_threads((int)s->threads)
    {
        narrow d = narrow_at(s, sums + omp_get_thread_num() * size);
        for (share its = of_thread(s); its.first < its.end; its.first += its.chunk)
            backward_chunk(s, t, mix_down_t, mix_up_t, d, its.first, least(its.chunk, its.end - its.first));
    }
    for (long thread = 1; thread < s->threads; thread++)
        for (long j = 0; j < size; j++) sums[j] += sums[thread * size + j];
    split_back(s, narrow_at(s, sums));
    free(memory);
    return 1;
}
