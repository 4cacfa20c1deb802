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

/* The inputs that are still to be taken, for one row of the batch, and one of the sites that they are of. */
typedef struct {
    const tensor *next;
    const operator *of;
    int64_t rows, row, sites, site;
    int fit;
} inputs_left;

/* The numbers of the next input, [axes], where there are rows and sites at these: [rows, sites, axes]. */
static const float *take(inputs_left *left, int has_rows, int64_t sites, size_t rank, const int64_t *axes) {
    const tensor *one = left->next++;
    const float *data = one->data;
    size_t first = has_rows + (sites > 0);
    int64_t size = 1;
    left->fit &= one->rank == first + rank;
    if (!left->fit) return NULL;
    if (has_rows) left->fit &= one->sizes[0] == left->rows;
    if (sites) left->fit &= one->sizes[has_rows] == sites;
    for (size_t axis = 0; axis < rank; axis++) {
        left->fit &= one->sizes[first + axis] == axes[axis];
        size *= axes[axis];
    }
    int64_t place = (has_rows ? left->row * (sites ? sites : 1) : 0) + (sites > 1 ? left->site : 0);
    return data + place * size;
}

/* A vector that is no site's. Rows may share it. */
static const float *shared_vector(inputs_left *left, int64_t size) {
    int has_rows = left->of->is_by_row && left->next->rank > 1;
    return take(left, has_rows, has_rows, 1, &size);
}

static const float *block(inputs_left *left, size_t rank, const int64_t *axes) {
    return take(left, left->of->is_by_row, left->sites, rank, axes);
}

static const float *vector(inputs_left *left, int64_t size) { return block(left, 1, &size); }

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

/* Takes the inputs in their order, of those of several rows and sites at these; returns whether they fit together. What of
   `into` does not depend on them stays. */
static int fits(const operator *of, const tensor *given, int64_t rows, int64_t row, int64_t site, adapter *into) {
    const tensor *x = given, *r = of->kind == DELTA ? x : x + 1;
    inputs_left left = {.next = r + 1, .of = of, .rows = rows, .row = row, .site = site};
    left.fit = x->rank > 0 && is_like(r, x);
    if (of->is_by_row || of->is_by_site) {
        left.sites = left.next->rank > (size_t)of->is_by_row ? left.next->sizes[of->is_by_row] : 0;
        left.fit &= 0 <= site && site < left.sites;
    }
    if (!left.fit) return 0;
    int64_t d = x->sizes[x->rank - 1];
    into->d = d, into->x = x->data;
    if (of->kind != DELTA) into->r = r->data;
    (of->has_factors ? take_factors : take_weights)(&left, into);
    if (!left.fit) return 0;
    if (of->has_bu) into->bu = vector(&left, d);
    if (of->has_b) into->b = shared_vector(&left, d);
    const float *(*of_norm)(inputs_left *, int64_t) = of->is_by_site ? vector : shared_vector;
    if (of->kind == NORM) into->gain = of_norm(&left, d), into->shift = of_norm(&left, d);
    return left.fit;
}

#endif
