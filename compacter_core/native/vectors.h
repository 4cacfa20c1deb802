/* Vectors as long as the CPU has them, and activations on them. Everything is float32. */
#ifndef COMPACTER_VECTORS_H
#define COMPACTER_VECTORS_H

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(sizeof(float) * LANES)));
typedef int ivec __attribute__((vector_size(sizeof(int) * LANES)));

/* In the order of `compacter_core.pytorch.kernels.cpu_adapter.ACTIVATIONS`. */
enum activation { GELU_NEW, GELU, RELU, SILU, TANH, IDENTITY };

INLINE long least(long a, long b) { return a < b ? a : b; }

/* The first count numbers, zeros beyond them. A count of LANES that the compiler knows is one instruction. */
INLINE vec load(const float *from, long count) {
    vec v = {0};
    memcpy(&v, from, count == LANES ? sizeof v : sizeof(float) * count);
    return v;
}

INLINE void store(float *to, vec v, long count) {
    memcpy(to, &v, count == LANES ? sizeof v : sizeof(float) * count);
}

INLINE float total(vec v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

#if LANES == 16 && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HALVES 1
#endif
#endif

/* The sums of the numbers of each of 16 vectors. With shuffles two vectors become one of half as many summands each, four
   times; that leaves sums in the order of their numbers' bits read backwards. */
INLINE void sum_each(vec v[16], float sums[16]) {
#ifdef HALVES
    for (int i = 0; i < 8; i++)
        v[i] = __builtin_shufflevector(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; i++)
        v[i] = __builtin_shufflevector(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               __builtin_shufflevector(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    for (int i = 0; i < 2; i++)
        v[i] = __builtin_shufflevector(v[i], v[i + 2], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
               __builtin_shufflevector(v[i], v[i + 2], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    vec one = __builtin_shufflevector(v[0], v[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
              __builtin_shufflevector(v[0], v[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    store(sums, __builtin_shufflevector(one, one, 0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), LANES);
#else
    for (int i = 0; i < 16; i++) sums[i] = total(v[i]);
#endif
}

INLINE vec chosen(ivec where, vec yes, vec no) {
    ivec a, b;
    memcpy(&a, &yes, sizeof a);
    memcpy(&b, &no, sizeof b);
    a = (where & a) | (~where & b);
    memcpy(&yes, &a, sizeof a);
    return yes;
}

INLINE vec filled(float x) { return (vec){0} + x; }

/* e^x by x = n ln 2 + f, |f| <= ln 2 / 2, and a Taylor polynomial of degree 7 in f, whose rest is below 5e-9 of it; x is
   kept where 2^n is a normal number. */
INLINE vec exponential(vec x) {
    x = chosen(x > 88, filled(88), x);
    x = chosen(x < -87, filled(-87), x);
    vec n = x * 1.44269504f + 12582912.0f - 12582912.0f; /* rounds to whole numbers: 1.5 2^23 */
    vec f = x - n * 0.693359375f + n * 2.12194440e-4f;   /* ln 2 in two parts, the first with few digits */
    vec sum = f * (1.0f / 5040) + 1.0f / 720;
    sum = sum * f + 1.0f / 120;
    sum = sum * f + 1.0f / 24;
    sum = sum * f + 1.0f / 6;
    sum = sum * f + 0.5f;
    sum = sum * f + 1;
    sum = sum * f + 1;
    ivec exponent = (__builtin_convertvector(n, ivec) + 127) << 23;
    vec power;
    memcpy(&power, &exponent, sizeof power);
    return sum * power;
}

INLINE vec sigmoid(vec x) { return 1 / (1 + exponential(-x)); }

INLINE vec each(float (*of)(float), vec x) {
    for (int i = 0; i < LANES; i++) x[i] = of(x[i]);
    return x;
}

/* gelu_new is z sigmoid(y): 1 + tanh(y / 2) = 2 sigmoid(y). */
INLINE vec gelu_new_argument(vec z) { return 1.5957691216f * (z + 0.044715f * z * z * z); }

/* a = act(z). */
INLINE vec activated(long kind, vec z) {
    switch (kind) {
        case GELU_NEW:
            return z * sigmoid(gelu_new_argument(z));
        case GELU:
            return 0.5f * z * (1 + each(erff, z * 0.70710678f));
        case RELU:
            return chosen(z < 0, filled(0), z);
        case SILU:
            return z * sigmoid(z);
        case TANH:
            return each(tanhf, z);
        default:
            return z;
    }
}

/* act'(z). */
INLINE vec slope(long kind, vec z) {
    vec s;
    switch (kind) {
        case GELU_NEW:
            s = sigmoid(gelu_new_argument(z));
            return s + z * 1.5957691216f * (1 + 0.134145f * z * z) * s * (1 - s);
        case GELU:
            return 0.5f * (1 + each(erff, z * 0.70710678f)) + z * 0.39894228f * exponential(-0.5f * z * z);
        case RELU:
            return chosen(z > 0, filled(1), filled(0));
        case SILU:
            s = sigmoid(z);
            return s + z * s * (1 - s);
        case TANH:
            s = each(tanhf, z);
            return 1 - s * s;
        default:
            return filled(1);
    }
}

#endif
