/* What a run of an operator is given: the tensors of an adapter, told apart by the operator's kind. */
#ifndef COMPACTER_GIVEN_H
#define COMPACTER_GIVEN_H

#include "bank.h"

typedef struct {
    void *data;
    const int64_t *sizes; /* ONNX Runtime's own, which are there as long as the input is */
    size_t rank;
} tensor;

static abi_status *read_input(const abi_functions *api, const abi_context *context, size_t index, tensor *into) {
    const abi_value *value;
    int type;
    abi_status *status = api->input(context, index, &value);
    if (!status) status = api->data_of((abi_value *)value, &into->data);
    return status ? status : api->sizes_of(value, &type, &into->sizes, &into->rank);
}

/* The inputs that are still to be taken, for one row of the batch, its entry in a bank, and one of the sites. */
typedef struct {
    const tensor *next;
    const operator *of;
    int64_t batch, row, entries, entry, sites, site;
    int fit;
} inputs_left;

/* Whether a tensor has these sizes behind the first few; there are as many as its axes. */
static int has_sizes(const tensor *one, size_t first, size_t rank, const int64_t *axes) {
    return one->rank == first + rank && !memcmp(one->sizes + first, axes, sizeof(int64_t) * rank);
}

/* The numbers of the next input, [axes], of the entry and the site where it has those of several. */
static const float *block(inputs_left *left, size_t rank, const int64_t *axes) {
    const tensor *one = left->next++;
    const operator *of = left->of;
    size_t first = of->is_of_bank + (of->is_of_bank || of->is_by_site);
    int64_t place = 0, size = 1;
    left->fit &= has_sizes(one, first, rank, axes);
    if (!left->fit) return NULL;
    for (size_t axis = 0; axis < rank; axis++) size *= axes[axis];
    if (of->is_of_bank) { /* sites may share a tensor */
        int64_t sites = one->sizes[1];
        left->fit &= one->sizes[0] == left->entries && (sites == 1 || left->site < sites);
        place = left->entry * sites + (sites == 1 ? 0 : left->site);
    } else if (of->is_by_site) {
        left->fit &= one->sizes[0] == left->sites;
        place = left->site;
    }
    return (const float *)one->data + place * size;
}

static const float *vector(inputs_left *left, int64_t size) {
    const int64_t axes[] = {1, size};
    return left->of->is_of_bank ? block(left, 2, axes) : block(left, 1, axes + 1);
}

/* A vector that is no site's. Rows may share it. */
static const float *shared_vector(inputs_left *left, int64_t size) {
    const tensor *one = left->next++;
    int has_rows = left->of->is_of_bank && one->rank > 1;
    left->fit &= has_rows ? has_sizes(one, 0, 3, (int64_t[]){left->batch, 1, size}) : has_sizes(one, 0, 1, &size);
    return left->fit ? (const float *)one->data + has_rows * left->row * size : NULL;
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

static void take_bd(inputs_left *left, adapter *into) {
    if (left->of->has_bd) into->bd = vector(left, into->k);
}

static void take_factors(inputs_left *left, adapter *into) {
    int64_t d = into->d, m = last_size(left, 0, 1), n = m ? d / m : 0, w = last_size(left, 0, 0), k = last_size(left, 1, 0);
    left->fit &= n * m == d;
    if (!left->fit) return;
    into->m = m, into->k = k, into->w_down = w;
    into->left = matrix(left, m, w);
    into->mix_down = block(left, 3, (int64_t[]){n, w, k});
    take_bd(left, into);
    into->w_up = w = last_size(left, 0, 0);
    into->mix_up = block(left, 3, (int64_t[]){k, n, w});
    into->right = matrix(left, w, m);
}

static void take_weights(inputs_left *left, adapter *into) {
    into->k = last_size(left, 0, 0);
    into->Wd = matrix(left, into->d, into->k);
    take_bd(left, into);
    into->Wu = matrix(left, into->k, into->d);
}

static void take_low_rank(inputs_left *left, adapter *into) {
    into->m = into->d, into->k = last_size(left, 1, 0);
    into->w_down = last_size(left, 0, 0);
    into->left = matrix(left, into->d, into->w_down);
    into->mix_down = matrix(left, into->w_down, into->k);
    take_bd(left, into);
    into->w_up = last_size(left, 0, 0);
    into->mix_up = matrix(left, into->k, into->w_up);
    into->right = matrix(left, into->w_up, into->d);
}

static void take_phm(inputs_left *left, adapter *into, summands *from) {
    int64_t d = into->d, n = last_size(left, 0, 0), m = n ? d / n : 0, q = m ? last_size(left, 1, 0) / m : 0;
    left->fit &= n && n * m == d;
    from->n = n, into->k = n * q;
    from->A_down = matrix(left, n * n, n);
    from->W_down = matrix(left, n, m * q);
    take_bd(left, into);
    from->A_up = matrix(left, n * n, n);
    from->W_up = matrix(left, n, q * m);
}

static void take_lphm(inputs_left *left, adapter *into, summands *from) {
    int64_t n = last_size(left, 0, 2), m = last_size(left, 1, 1), q = last_size(left, 2, 0);
    const int64_t axes[] = {n, n, 1, n, 1, 1};
    from->n = n, into->m = m, into->k = n * q;
    left->fit &= n && n * m == into->d;
    from->A_down = block(left, 6, axes);
    into->w_down = last_size(left, 0, 0);
    into->left = matrix(left, m, into->w_down);
    from->t = matrix(left, into->w_down, q);
    take_bd(left, into);
    from->A_up = block(left, 6, axes);
    into->w_up = last_size(left, 0, 0);
    from->s = matrix(left, q, into->w_up);
    into->right = matrix(left, into->w_up, m);
    left->fit = left->fit && into->w_down % n == 0 && into->w_up % n == 0;
}

static void take_projections(inputs_left *left, adapter *into, summands *from) {
    switch (left->of->weights) {
    case BANK_LOW_RANK: take_low_rank(left, into); break;
    case BANK_PHM: take_phm(left, into, from); break;
    case BANK_LPHM: take_lphm(left, into, from); break;
    case FACTORS:
    case FACTORS_OF_SITES: take_factors(left, into); break;
    default: take_weights(left, into);
    }
}

/* The entry that a row of the batch has, and whether it is one of the bank. */
static int64_t entry_of(const operator *of, const tensor *given, int64_t row) {
    return ((const int64_t *)given[entry_at(of)].data)[row];
}

static int has_entry(const operator *of, const tensor *given, int64_t row) {
    int64_t entry = entry_of(of, given, row);
    return 0 <= entry && entry < given[entry_at(of) + 1].sizes[0];
}

/* Takes the inputs in their order, of those of several at a row of the batch and a site; returns whether they fit together.
   What of `into` does not depend on them stays. Where there is no row or no entry, it is given pointers that nobody may
   follow. */
static int fits(const operator *of, const tensor *given, int64_t row, int64_t site, adapter *into, summands *from) {
    const tensor *x = given, *r = of->kind == DELTA ? x : x + 1;
    inputs_left left = {.next = r + 1, .of = of, .row = row, .site = site};
    left.fit = x->rank > 0 && is_like(r, x) && site >= 0;
    if (of->is_of_bank && left.fit) {
        const tensor *entry = left.next++;
        left.batch = x->sizes[0], left.entries = left.next->rank ? left.next->sizes[0] : 0;
        left.fit &= x->rank > 1 && has_sizes(entry, 0, 1, &left.batch);
        if (left.fit && row < left.batch && has_entry(of, given, row)) left.entry = entry_of(of, given, row);
    } else if (of->is_by_site) {
        left.sites = left.next->rank ? left.next->sizes[0] : 0;
        left.fit &= site < left.sites;
    }
    if (!left.fit) return 0;
    int64_t d = x->sizes[x->rank - 1];
    into->d = d, into->x = x->data;
    if (of->kind != DELTA) into->r = r->data;
    take_projections(&left, into, from);
    if (!left.fit) return 0;
    if (of->has_bu) into->bu = vector(&left, d);
    if (of->has_b) into->b = shared_vector(&left, d);
    const float *(*of_norm)(inputs_left *, int64_t) = of->is_by_site ? vector : shared_vector;
    if (of->kind == NORM) into->gain = of_norm(&left, d), into->shift = of_norm(&left, d);
    return left.fit;
}

#endif
