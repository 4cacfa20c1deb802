/* What a run of an operator is given: the tensors of an adapter, told apart by the operator's kind. */
#ifndef COMPACTER_GIVEN_H
#define COMPACTER_GIVEN_H

#include "factors.h"
#include "operator.h"

#define MAX_RANK 8

typedef struct {
    void *data;
    int64_t sizes[MAX_RANK];
    size_t rank;
} tensor;

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

/* The inputs that are still to be taken, for one entry of those that have several: rows of the batch, or sites. */
typedef struct {
    const tensor *next;
    const operator *of;
    int64_t entries, entry;
    int fit;
} inputs_left;

/* The numbers of the next input, [axes] or at the entry of [entries, axes] or, by row, [entries, 1, axes]. */
static const float *take(inputs_left *left, int has_entries, size_t rank, const int64_t *axes) {
    const tensor *one = left->next++;
    const float *data = one->data;
    size_t first = has_entries ? 1 + left->of->is_by_row : 0;
    int64_t size = 1;
    left->fit &= one->rank == first + rank;
    if (!left->fit) return NULL;
    if (first) left->fit &= one->sizes[0] == left->entries && (first == 1 || one->sizes[1] == 1);
    for (size_t axis = 0; axis < rank; axis++) {
        left->fit &= one->sizes[first + axis] == axes[axis];
        size *= axes[axis];
    }
    return has_entries ? data + left->entry * size : data;
}

/* A vector that all rows may share. */
static const float *shared_vector(inputs_left *left, int64_t size) {
    return take(left, left->of->is_by_row && left->next->rank > 1, 1, &size);
}

static const float *vector(inputs_left *left, int64_t size) {
    return left->of->is_by_site ? take(left, 1, 1, &size) : shared_vector(left, size);
}

static const float *block(inputs_left *left, size_t rank, const int64_t *axes) {
    return take(left, left->of->is_by_row || left->of->is_by_site, rank, axes);
}

static const float *matrix(inputs_left *left, int64_t rows, int64_t columns) {
    return block(left, 2, (int64_t[]){rows, columns});
}

/* A size of an input behind the next one, counted from its last; 0 if it has fewer. */
static int64_t last_size(const inputs_left *left, int skipped, int back) {
    const tensor *one = left->next + skipped;
    return (int64_t)one->rank > back ? one->sizes[one->rank - 1 - back] : 0;
}

static int is_like(const tensor *one, const tensor *other) {
    return one->rank == other->rank && !memcmp(one->sizes, other->sizes, sizeof(int64_t) * one->rank);
}

static void take_factors(inputs_left *left, adapter *into) {
    int64_t d = into->d, m = last_size(left, 0, 1), n = m ? d / m : 0, w = last_size(left, 0, 0), k = last_size(left, 1, 0);
    left->fit &= n * m == d;
    if (!left->fit) return;
    into->m = m, into->k = k, into->w_down = w;
    into->left = matrix(left, m, w);
    into->mix_down = block(left, 3, (int64_t[]){n, w, k});
    if (left->of->has_bd) into->bd = vector(left, k);
    into->w_up = w = last_size(left, 0, 0);
    into->mix_up = block(left, 3, (int64_t[]){k, n, w});
    into->right = matrix(left, w, m);
}

static void take_weights(inputs_left *left, adapter *into) {
    into->k = last_size(left, 0, 0);
    into->Wd = matrix(left, into->d, into->k);
    if (left->of->has_bd) into->bd = vector(left, into->k);
    into->Wu = matrix(left, into->k, into->d);
}

/* Takes the inputs in their order; returns whether they fit together.

   of       the operator
   given    x, and what follows it
   entries  of what has several: rows of the batch; of sites the inputs tell
   entry    which of them is taken
   into     all that does not depend on inputs stays */
static int fits(const operator *of, const tensor *given, int64_t entries, int64_t entry, adapter *into) {
    const tensor *x = given, *r = of->kind == DELTA ? x : x + 1;
    inputs_left left = {r + 1, of, entries, entry, x->rank > 0 && is_like(r, x)};
    if (of->is_by_site) {
        left.entries = left.next->rank ? left.next->sizes[0] : 0;
        left.fit &= 0 <= entry && entry < left.entries;
    }
    if (!left.fit) return 0;
    int64_t d = x->sizes[x->rank - 1];
    into->d = d, into->x = x->data;
    if (of->kind != DELTA) into->r = r->data;
    (of->has_factors ? take_factors : take_weights)(&left, into);
    if (!left.fit) return 0;
    if (of->has_bu) into->bu = vector(&left, d);
    if (of->has_b) into->b = shared_vector(&left, d);
    if (of->kind == NORM) into->gain = vector(&left, d), into->shift = vector(&left, d);
    return left.fit;
}

#endif
