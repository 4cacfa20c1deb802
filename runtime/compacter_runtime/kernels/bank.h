/* Projections of phm and lphm as a bank has them (`compacter_core/linkage/bank.py`), and what is made of them for a row of
   the batch: with n summands, blocks a and b, places p and j within them, and A as [a, i, b] or [a, b, i],

       phm    Wd and Wu = sum_i A_i[a, b] W_i[p, j]
       lphm   mix_down[a, (i, r), (b, j)] = A_i[a, b] t_i[r, j],   mix_up[(a, p), b, (i, r)] = s_i[p, r] A_i[a, b] */
#ifndef COMPACTER_BANK_H
#define COMPACTER_BANK_H

#include "factors.h"
#include "operator.h"

#define PAPERS_N 4 /* with r = 1: the compiler makes loops of their own for these, which take a quarter of the time */

typedef struct {
    long n;
    const float *A_down, *A_up, *W_down, *W_up, *t, *s;
} summands;

/* How many numbers `make` makes. */
static long made_size(const operator *of, const summands *from, const adapter *into) {
    if (of->weights == BANK_PHM) return 2 * into->d * into->k;
    return of->weights == BANK_LPHM ? from->n * into->k * (into->w_down + into->w_up) : 0;
}

static void multiply_out(const float *A, const float *W, long n, long rows, long columns, float *made) {
    long size = rows * columns;
    for (long a = 0; a < n; a++)
        for (long p = 0; p < rows; p++)
            for (long b = 0; b < n; b++, made += columns)
                for (long j = 0; j < columns; j++) {
                    float sum = 0;
                    for (long i = 0; i < n; i++) sum += A[(a * n + b) * n + i] * W[i * size + p * columns + j];
                    made[j] = sum;
                }
}

/* Loops over i and r apart: a division to find i takes longer than all else. */
INLINE void mix_t(const summands *from, long n, long r, long q, float *made) {
    for (long a = 0; a < n; a++)
        for (long i = 0; i < n; i++)
            for (long line = i * r; line < (i + 1) * r; line++)
                for (long b = 0; b < n; b++, made += q) {
                    float A = from->A_down[(a * n + i) * n + b];
                    for (long j = 0; j < q; j++) made[j] = A * from->t[line * q + j];
                }
}

INLINE void mix_s(const summands *from, long n, long r, long q, float *made) {
    for (long a = 0; a < n; a++)
        for (long p = 0; p < q; p++)
            for (long b = 0; b < n; b++)
                for (long i = 0; i < n; i++) {
                    float A = from->A_up[(a * n + i) * n + b];
                    for (long line = i * r; line < (i + 1) * r; line++) *made++ = from->s[p * n * r + line] * A;
                }
}

/* Gives an adapter the weights or factors that a bank does not have as they are. */
static void make(const operator *of, const summands *from, adapter *into, float *memory) {
    if (of->weights == BANK_PHM) {
        long n = from->n, m = into->d / n, q = into->k / n;
        float *Wu = memory + into->d * into->k;
        multiply_out(from->A_down, from->W_down, n, m, q, memory);
        multiply_out(from->A_up, from->W_up, n, q, m, Wu);
        into->Wd = memory, into->Wu = Wu;
    } else if (of->weights == BANK_LPHM) {
        long q = into->k / from->n;
        float *mix_up = memory + from->n * into->w_down * into->k;
        long n = from->n, r_down = into->w_down / n, r_up = into->w_up / n;
        if (n == PAPERS_N && r_down == 1 && r_up == 1) {
            mix_t(from, PAPERS_N, 1, q, memory);
            mix_s(from, PAPERS_N, 1, q, mix_up);
        } else {
            mix_t(from, n, r_down, q, memory);
            mix_s(from, n, r_up, q, mix_up);
        }
        into->mix_down = memory, into->mix_up = mix_up;
    }
}

#endif
