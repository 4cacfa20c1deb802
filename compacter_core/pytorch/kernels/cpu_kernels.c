/* The kernels of `cpu_adapter`: an adapter in one pass over hidden states each way.

   Symbols as in `fused` and `factors`: rows of n blocks of m numbers, rank r, w = n r, bottleneck k = n q; low_rank is
   lphm with n = 1 and A = 1. All matrices are row-major. A chunk of rows stays in the cache while everything is
   done that needs it. A thread takes consecutive rows and has sums of its own, which are added in the order of threads,
   so that results do not depend on which one is first.
*/
#include <omp.h>
#include <stdlib.h>

#include "cpu_products.h"

#define CHUNK 6144 /* numbers of hidden states in a chunk: half of a first-level cache */

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
