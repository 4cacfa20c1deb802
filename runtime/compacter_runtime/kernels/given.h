/* The operators, and what a run of one is given: the tensors of an adapter, told apart by the operator's kind. */
#ifndef COMPACTER_GIVEN_H
#define COMPACTER_GIVEN_H

#include "factors.h"
#include "onnxruntime_abi.h"

#define MAX_RANK 8

static const char *const ACTIVATIONS[] = {"gelu_new", "gelu", "relu", "silu", "tanh", "identity"};
static const char *const KINDS[] = {"Delta", "Residual", "Norm"};
static const char *const BIASED[] = {"", "_bd", "_bu", "_bd_bu", "_bd_bu_b"};
static const char *const WEIGHTS[] = {"", "rows_", "factors_", "factors_rows_"};
enum kind { DELTA, RESIDUAL, NORM };
enum { BIASES = 5, ACTIVATED = BIASES * sizeof ACTIVATIONS / sizeof *ACTIVATIONS, OF_KIND = 4 * ACTIVATED };
enum { MOST_INPUTS = 11, OPERATORS = (NORM + 1) * OF_KIND };

typedef struct {
    abi_operator shared; /* first: ONNX Runtime hands out its address */
    enum kind kind;
    long activation;
    int has_factors, is_by_row, has_bd, has_bu, has_b;
    char name[64];
} operator;

typedef struct {
    const operator *of;
    const abi_functions *api;
    float epsilon;
    void *norm; /* ONNX Runtime's, where a run may come without an adapter */
} kernel;

typedef struct {
    void *data;
    int64_t sizes[MAX_RANK];
    size_t rank;
} tensor;

typedef struct {
    const kernel *self;
    const tensor *given;
    float *y;
    adapter first; /* that of the first entry, whose sizes all have */
    long rows, entries, tiles, parts;
    int is_bare, failed; /* without an adapter, where the norm is ONNX Runtime's */
} job;

static abi_status *read_input(const abi_functions *api, const abi_context *context, size_t index, tensor *into) {
    const abi_value *value;
    void *shape;
    abi_status *status = api->input(context, index, &value);
    if (!status) status = api->data_of((abi_value *)value, &into->data);
    if (!status) status = api->shape_of(value, &shape);
    if (status) return status;
    status = api->rank_of(shape, &into->rank);
    if (!status && into->rank > MAX_RANK) status = api->create_status(ABI_INVALID_ARGUMENT, "too many axes");
    if (!status) status = api->sizes_of(shape, into->sizes, into->rank);
    api->release_shape(shape);
    return status;
}

/* The inputs that are still to be taken, for one row of the batch. */
typedef struct {
    const tensor *next;
    int64_t entries, entry;
    int is_by_row, fit;
} inputs_left;

/* The numbers of the next input, [axes] or, by row, [entries, 1, axes] at the entry. */
static const float *take(inputs_left *of, int is_by_row, size_t rank, const int64_t *axes) {
    const tensor *one = of->next++;
    const float *data = one->data;
    size_t first = is_by_row ? 2 : 0;
    int64_t size = 1;
    of->fit &= one->rank == first + rank;
    if (!of->fit) return NULL;
    if (is_by_row) of->fit &= one->sizes[0] == of->entries && one->sizes[1] == 1;
    for (size_t axis = 0; axis < rank; axis++) {
        of->fit &= one->sizes[first + axis] == axes[axis];
        size *= axes[axis];
    }
    return is_by_row ? data + of->entry * size : data;
}

/* A vector where there is one. Rows may share it. */
static const float *vector(inputs_left *of, int is_there, int64_t size) {
    return is_there ? take(of, of->is_by_row && of->next->rank > 1, 1, &size) : NULL;
}

static const float *matrix(inputs_left *of, int64_t rows, int64_t columns) {
    return take(of, of->is_by_row, 2, (int64_t[]){rows, columns});
}

/* A size of an input behind the next one, counted from its last; 0 if it has fewer. */
static int64_t last_size(const inputs_left *of, int skipped, int back) {
    const tensor *one = of->next + skipped;
    return (int64_t)one->rank > back ? one->sizes[one->rank - 1 - back] : 0;
}

static int is_like(const tensor *one, const tensor *other) {
    return one->rank == other->rank && !memcmp(one->sizes, other->sizes, sizeof(int64_t) * one->rank);
}

static void take_factors(const operator *of, inputs_left *left, adapter *into) {
    int64_t d = into->d, m = last_size(left, 0, 1), n = m ? d / m : 0, w = last_size(left, 0, 0), k = last_size(left, 1, 0);
    left->fit &= n * m == d;
    if (!left->fit) return;
    into->m = m, into->k = k, into->w_down = w;
    into->left = matrix(left, m, w);
    into->mix_down = take(left, left->is_by_row, 3, (int64_t[]){n, w, k});
    into->bd = vector(left, of->has_bd, k);
    into->w_up = w = last_size(left, 0, 0);
    into->mix_up = take(left, left->is_by_row, 3, (int64_t[]){k, n, w});
    into->right = matrix(left, w, m);
}

static void take_weights(const operator *of, inputs_left *left, adapter *into) {
    into->k = last_size(left, 0, 0);
    into->Wd = matrix(left, into->d, into->k);
    into->bd = vector(left, of->has_bd, into->k);
    into->Wu = matrix(left, into->k, into->d);
}

/* Takes the inputs of a row of the batch in their order; returns whether they fit together. */
static int fits(const job *whole, long entry, adapter *into) {
    const operator *of = whole->self->of;
    const tensor *x = whole->given, *r = of->kind == DELTA ? x : x + 1;
    inputs_left left = {r + 1, whole->entries, entry, of->is_by_row, x->rank > 0 && is_like(r, x)};
    if (!left.fit) return 0;
    int64_t d = x->sizes[x->rank - 1];
    *into = (adapter){.d = d, .activation = of->activation, .epsilon = whole->self->epsilon, .x = x->data, .y = whole->y};
    if (of->kind != DELTA) into->r = r->data;
    if (of->has_factors)
        take_factors(of, &left, into);
    else
        take_weights(of, &left, into);
    if (!left.fit) return 0;
    into->bu = vector(&left, of->has_bu, d);
    into->b = vector(&left, of->has_b, d);
    into->gain = vector(&left, of->kind == NORM, d);
    into->shift = vector(&left, of->kind == NORM, d);
    return left.fit;
}

#endif
