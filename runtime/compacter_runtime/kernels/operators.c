/* Operators for ONNX Runtime that stand in for the functions of grafted models (ONX-36, ONX-54), under their names:

       Delta_<weights><activation>[_bd][_bu]_FLOAT(x, down, [bd,] up [, bu])         y = act(x Wd + bd) Wu + bu
       Residual_<weights><activation>[_bd][_bu]_FLOAT(x, r, down, [bd,] up [, bu])   y = r + (x + (act(x Wd + bd) Wu + bu))
       Norm_<weights><activation>[_bd][_bu]_FLOAT(x, r, down, [bd,] up [, bu], gain, shift)    the layer norm of that

   where down and up are a weight each, Wd and Wu, or, with the weights `factors_`, two inputs each: left and mix_down, and
   mix_up and right, of `factors.h`.
   With `rows_`, matrices have the rows of the batch and 1 as further first axes, [B, 1, ...], and so may vectors.

   One pass over the rows, on the session's own threads. A session where this library is not registered puts the
   functions in the place of their calls.
*/
#include <pthread.h>
#include <stdio.h>

#include "factors.h"
#include "onnxruntime_abi.h"

#define DOMAIN "ai.compacter"
#define PRODUCTS_OF_A_PART 100000 /* starting a thread for fewer takes longer than it saves */
#define PASSES 12 /* over a row: what moving and norming it costs, in products */
#define MAX_RANK 8

static const char *const ACTIVATIONS[] = {"gelu_new", "gelu", "relu", "silu", "tanh", "identity"};
static const char *const KINDS[] = {"Delta", "Residual", "Norm"};
static const char *const WEIGHTS[] = {"", "rows_", "factors_", "factors_rows_"};
enum kind { DELTA, RESIDUAL, NORM };
enum { MOST_INPUTS = 10, ACTIVATED = 4 * sizeof ACTIVATIONS / sizeof *ACTIVATIONS, OF_KIND = 4 * ACTIVATED };
enum { OPERATORS = (NORM + 1) * OF_KIND };

typedef struct {
    abi_operator shared; /* first: ONNX Runtime hands out its address */
    enum kind kind;
    long activation;
    int has_factors, is_by_row, has_bd, has_bu;
    char name[64];
} operator;

typedef struct {
    const operator *of;
    const abi_functions *api;
    float epsilon;
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
    int failed;
} job;

static int count_inputs(const operator *of) {
    return 3 + (of->kind != DELTA) + 2 * of->has_factors + of->has_bd + of->has_bu + 2 * (of->kind == NORM);
}

/* ---- What a run is given. ---- */

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
    into->gain = vector(&left, of->kind == NORM, d);
    into->shift = vector(&left, of->kind == NORM, d);
    return left.fit;
}

/* ---- A run. ---- */

/* The first row of a part; parts are whole tiles. */
static long start_of(const job *whole, long part) {
    return least(whole->tiles * part / whole->parts * TILE, whole->rows);
}

static void run_part(void *data, size_t part) {
    job *whole = data;
    int has_factors = whole->self->of->has_factors;
    long size = has_factors ? scratch_size(&whole->first) : TILE * padded(whole->first.k) + 1;
    long row = start_of(whole, part), end = start_of(whole, part + 1), of_entry = whole->rows / whole->entries;
    float *memory = malloc(sizeof(float) * size);
    if (!memory) __atomic_store_n(&whole->failed, 1, __ATOMIC_RELAXED);
    for (long next; memory && row < end; row = next) {
        adapter one;
        long entry = row / of_entry;
        next = least(end, (entry + 1) * of_entry);
        fits(whole, entry, &one); /* as the first does */
        (has_factors ? adapt_factors : adapt)(&one, row, next, memory);
    }
    free(memory);
}

/* A power of two, which most numbers of threads share out evenly. */
static long count_parts(const job *whole) {
    const adapter *of = &whole->first;
    double products = 2.0 * whole->rows * of->d * (of->k + 1);
    if (whole->self->of->has_factors) products = (double)whole->rows * of->d * (of->w_down + of->w_up + PASSES);
    long parts = 1;
    while (2 * parts <= whole->tiles && 2 * parts * PRODUCTS_OF_A_PART <= products) parts *= 2;
    return parts;
}

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

static abi_status *compute(void *data, abi_context *context) {
    const kernel *self = data;
    const abi_functions *api = self->api;
    tensor given[MOST_INPUTS];
    abi_value *output;
    abi_status *status = NULL;
    job whole = {.self = self, .given = given, .rows = 1, .entries = 1};
    for (int i = 0; i < count_inputs(self->of); i++)
        if ((status = read_input(api, context, i, given + i))) return status;
    for (size_t axis = 0; axis + 1 < given->rank; axis++) whole.rows *= given->sizes[axis];
    if (self->of->is_by_row) whole.entries = given->rank > 1 ? given->sizes[0] : 0;
    if (!fits(&whole, 0, &whole.first))
        return api->create_status(ABI_INVALID_ARGUMENT, "the tensors of an adapter and its input do not fit together");
    if ((status = api->output(context, 0, given->sizes, given->rank, &output))) return status;
    if ((status = api->data_of(output, (void **)&whole.y))) return status;
    if (!whole.rows || !whole.first.d) return NULL;
    whole.tiles = (whole.rows + TILE - 1) / TILE;
    whole.parts = count_parts(&whole);
    if (whole.parts == 1)
        run_part(&whole, 0);
    else
        status = api->parallel_for(context, run_part, whole.parts, 0, &whole);
    return status || !whole.failed ? status : api->create_status(ABI_FAIL, "no memory for an adapter");
}

/* ---- What ONNX Runtime asks about an operator. ---- */

static abi_status *create(const abi_operator *self, const abi_functions *api, const void *info, void **made) {
    const operator *of = (const operator *)self;
    kernel *one = malloc(sizeof *one);
    if (!one) return api->create_status(ABI_FAIL, "no memory for an adapter");
    *one = (kernel){of, api, 0};
    abi_status *status = of->kind == NORM ? api->float_of(info, "epsilon", &one->epsilon) : NULL;
    if (status)
        free(one);
    else
        *made = one;
    return status;
}

static void destroy(void *made) { free(made); }
static const char *name(const abi_operator *self) { return ((const operator *)self)->name; }
static const char *provider(const abi_operator *self) { return (void)self, (const char *)NULL; }
static size_t inputs(const abi_operator *self) { return count_inputs((const operator *)self); }
static size_t outputs(const abi_operator *self) { return (void)self, 1; }
static int type(const abi_operator *self, size_t index) { return (void)self, (void)index, ABI_FLOAT; }
static int kind(const abi_operator *self, size_t index) { return (void)self, (void)index, ABI_REQUIRED; }
static int memory(const abi_operator *self, size_t index) { return (void)self, (void)index, ABI_MEMORY_OF_PROVIDER; }
static int version(const abi_operator *self) { return (void)self, 1; }

/* Output 0 into the memory of input 1, which is r: a number is written where it was read last. */
static size_t may_overwrite(int **from, int **to) {
    *from = malloc(sizeof(int));
    *to = malloc(sizeof(int));
    if (!*from || !*to) return 0;
    **from = 1;
    **to = 0;
    return 1;
}

static size_t none(int **from, int **to) {
    *from = *to = NULL;
    return 0;
}

static void release(int *from, int *to) {
    free(from);
    free(to);
}

static const abi_operator SHARED = {.version = ABI_VERSION,
                                    .name = name,
                                    .provider = provider,
                                    .input_type = type,
                                    .inputs = inputs,
                                    .output_type = type,
                                    .outputs = outputs,
                                    .destroy = destroy,
                                    .input_kind = kind,
                                    .output_kind = kind,
                                    .input_memory = memory,
                                    .create = create,
                                    .compute = compute,
                                    .first_version = version,
                                    .last_version = version,
                                    .may_overwrite = none,
                                    .release_may_overwrite = release,
                                    .aliases = none,
                                    .release_aliases = release};

/* ---- Registration: one domain for all sessions of the process, which has to outlive them. ---- */

static operator operators[OPERATORS];
static void *domain;
static const abi_functions *functions;
static abi_status *made;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_domain(void) {
    made = functions->create_domain(DOMAIN, &domain);
    for (int i = 0; i < OPERATORS && !made; i++) {
        operator *one = operators + i;
        one->shared = SHARED;
        one->kind = i / OF_KIND;
        int weights = i % OF_KIND / ACTIVATED;
        one->is_by_row = weights & 1, one->has_factors = weights >> 1;
        one->activation = i % ACTIVATED / 4;
        one->has_bd = i & 1, one->has_bu = i >> 1 & 1;
        if (one->kind != DELTA) one->shared.may_overwrite = may_overwrite;
        snprintf(one->name, sizeof one->name, "%s_%s%s%s%s_FLOAT", KINDS[one->kind], WEIGHTS[weights],
                 ACTIVATIONS[one->activation], one->has_bd ? "_bd" : "", one->has_bu ? "_bu" : "");
        made = functions->add_operator(domain, one);
    }
}

/* What ONNX Runtime calls when the library is registered with a session's options. */
abi_status *RegisterCustomOps(void *session_options, const abi_base *base) {
    const abi_functions *api = base->functions(ABI_VERSION);
    if (!api) return base->functions(1)->create_status(ABI_FAIL, "kernels of adapters need ONNX Runtime 1.18 or newer");
    functions = api;
    pthread_once(&once, make_domain);
    return made ? api->create_status(ABI_FAIL, "the kernels of adapters cannot be registered")
                : api->add_domain(session_options, domain);
}
