/* Operators for ONNX Runtime that stand in for the functions of grafted models (ONX-36, ONX-54), under their names:

       Delta_<name>(x, down, [bd,] up [, bu])                     y = act(x Wd + bd) Wu + bu
       Residual_<name>(x, r, down, [bd,] up [, bu])               y = r + (x + (act(x Wd + bd) Wu + bu))
       Norm_<name>(x, r, down, [bd,] up [, bu], gain, shift)      the layer norm of that

   where <name> is <weights><activation>[_bd][_bu]_FLOAT. With `_bd_bu_b` there is b behind bu, and b + bu in its place.
   down and up are a weight each, Wd and Wu, or, with the weights `factors_`, two inputs each: left and mix_down, and mix_up
   and right, of `factors.h`. With `factors_sites_` all but b are those of S sites, [S, ...]. With `bank_<kind>_` they are
   the tensors of a bank, [E, S, ...] or, where sites share them, [E, 1, ...]; an input behind r, int64 [B], is the entry
   that each row of the batch has, and b, gain and shift may be of the rows, [B, 1, d]. The attribute `site` says which
   site's it takes.

   One pass over the rows, on the session's own threads. A session where this library is not registered puts the
   functions in the place of their calls.
*/
#include <pthread.h>

#include "given.h"
#include "own_norm.h"

#define DOMAIN "ai.compacter"
#define PRODUCTS_OF_A_PART 100000 /* starting a thread for fewer takes longer than it saves */
#define PASSES 12 /* over a row: what moving and norming it costs, in products */

typedef struct {
    const operator *of;
    const abi_functions *api;
    float epsilon;
    int64_t site; /* whose tensors it takes, of those of all sites */
    own_norm norm; /* where a run may come without an adapter */
} kernel;

typedef struct {
    const operator *of;
    const tensor *given;
    adapter first; /* that of the first row of the batch, whose sizes all have */
    summands from;
    int64_t site;
    long rows, batch, of_each, tiles, parts; /* batch: how many have an adapter of their own, for rows `of_each` */
    int is_bare, failed; /* without an adapter, where the norm is ONNX Runtime's */
} job;

/* ---- A run. ---- */

static long count_tiles(long rows) { return (rows + TILE - 1) / TILE; }

/* The first row of a part; parts are whole tiles, which have one adapter each. */
static long start_of(const job *whole, long part) {
    long tile = whole->tiles * part / whole->parts, of_each = count_tiles(whole->of_each);
    return tile / of_each * whole->of_each + tile % of_each * TILE;
}

static void run_part(void *data, size_t part) {
    job *whole = data;
    const operator *of = whole->of;
    long size = of->has_factors ? scratch_size(&whole->first) : TILE * padded(whole->first.k) + 1;
    long row = start_of(whole, part), end = start_of(whole, part + 1);
    float *memory = malloc(sizeof(float) * (size + made_size(of, &whole->from, &whole->first)));
    if (!memory) __atomic_store_n(&whole->failed, 1, __ATOMIC_RELAXED);
    for (long next; memory && row < end; row = next) {
        adapter one = whole->first;
        summands from = whole->from;
        long at = row / whole->of_each;
        next = least(end, (at + 1) * whole->of_each);
        if (at) fits(of, whole->given, at, whole->site, &one, &from); /* as the first does */
        make(of, &from, &one, memory + size);
        if (whole->is_bare) one.gain = NULL;
        (of->has_factors ? adapt_factors : adapt)(&one, row, next, memory);
    }
    free(memory);
}

/* A power of two, which most numbers of threads share out evenly. */
static long count_parts(const job *whole) {
    const adapter *of = &whole->first;
    double products = 2.0 * whole->rows * of->d * (of->k + 1);
    if (whole->of->has_factors) products = (double)whole->rows * of->d * (of->w_down + of->w_up + PASSES);
    /* Weights that are multiplied out for a row of the batch are so once. */
    long parts = 1, most = whole->of->weights == BANK_PHM ? whole->batch : whole->tiles;
    while (2 * parts <= most && 2 * parts * PRODUCTS_OF_A_PART <= products) parts *= 2;
    return parts;
}

static abi_status *no_entry(const operator *of, const tensor *given, long row, const abi_functions *api) {
    char message[160];
    long long last = given[entry_at(of) + 1].sizes[0] - 2;
    snprintf(message, sizeof message,
             "row %ld has the adapter_id %lld, which the bank does not have; expected: -1 for no adapter, to %lld", row,
             (long long)entry_of(of, given, row) - 1, last);
    return api->create_status(ABI_INVALID_ARGUMENT, message);
}

static abi_status *compute(void *data, abi_context *context) {
    const kernel *self = data;
    const operator *of = self->of;
    const abi_functions *api = self->api;
    tensor given[MOST_INPUTS];
    abi_value *output;
    abi_status *status = NULL;
    job whole = {.of = of, .given = given, .site = self->site, .rows = 1, .batch = 1};
    whole.first = (adapter){.activation = of->activation, .epsilon = self->epsilon};
    for (int i = 0; i < count_inputs(of); i++)
        if ((status = read_input(api, context, i, given + i))) return status;
    for (size_t axis = 0; axis + 1 < given->rank; axis++) whole.rows *= given->sizes[axis];
    if (of->is_of_bank) whole.batch = given->rank ? given->sizes[0] : 0;
    if (!fits(of, given, 0, self->site, &whole.first, &whole.from))
        return api->create_status(ABI_INVALID_ARGUMENT, "the tensors of an adapter and its input do not fit together");
    for (long at = 0; of->is_of_bank && at < whole.batch; at++)
        if (!has_entry(of, given, at)) return no_entry(of, given, at, api);
    if ((status = api->output(context, 0, given->sizes, given->rank, &output))) return status;
    if ((status = api->data_of(output, (void **)&whole.first.y))) return status;
    if (!whole.rows || !whole.first.d) return NULL;
    whole.is_bare = self->norm.node && !whole.first.k;
    whole.of_each = whole.rows / whole.batch;
    whole.tiles = whole.batch * count_tiles(whole.of_each);
    whole.parts = count_parts(&whole);
    if (whole.parts == 1)
        run_part(&whole, 0);
    else
        status = api->parallel_for(context, run_part, whole.parts, 0, &whole);
    if (!status && whole.failed) status = api->create_status(ABI_FAIL, "no memory for an adapter");
    if (status || !whole.is_bare) return status;
    return run_norm(api, context, &self->norm, whole.first.gain, whole.first.shift, whole.first.d, output);
}

/* ---- What ONNX Runtime asks about an operator. ---- */

static void destroy(void *made) {
    kernel *one = made;
    release_norm(one->api, &one->norm);
    free(one);
}

static abi_status *create(const abi_operator *self, const abi_functions *api, const void *info, void **made) {
    const operator *of = (const operator *)self;
    kernel *one = malloc(sizeof *one);
    if (!one) return api->create_status(ABI_FAIL, "no memory for an adapter");
    *one = (kernel){.of = of, .api = api};
    abi_status *status = of->kind == NORM ? api->float_of(info, "epsilon", &one->epsilon) : NULL;
    if (!status && (of->is_of_bank || of->is_by_site)) status = api->integer_of(info, "site", &one->site);
    if (!status && of->kind == NORM && !of->is_of_bank) status = make_norm(api, info, one->epsilon, &one->norm);
    if (status)
        destroy(one);
    else
        *made = one;
    return status;
}

static const char *name(const abi_operator *self) { return ((const operator *)self)->name; }
static const char *provider(const abi_operator *self) { return (void)self, (const char *)NULL; }
static size_t inputs(const abi_operator *self) { return count_inputs((const operator *)self); }
static size_t outputs(const abi_operator *self) { return (void)self, 1; }
static int output_type(const abi_operator *self, size_t index) { return (void)self, (void)index, ABI_FLOAT; }
static int input_type(const abi_operator *self, size_t index) {
    const operator *of = (const operator *)self;
    return of->is_of_bank && index == entry_at(of) ? ABI_INTEGER : ABI_FLOAT;
}
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
                                    .input_type = input_type,
                                    .inputs = inputs,
                                    .output_type = output_type,
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
        describe(i, one);
        one->shared = SHARED;
        if (one->kind != DELTA) one->shared.may_overwrite = may_overwrite;
        made = functions->add_operator(domain, one);
    }
}

/* What ONNX Runtime calls when the library is registered with a session's options. */
abi_status *RegisterCustomOps(void *session_options, const abi_base *base) {
    const abi_functions *api = base->functions(ABI_VERSION);
    if (!api) return base->functions(1)->create_status(ABI_FAIL, "kernels of adapters need ONNX Runtime 1.24 or newer");
    functions = api;
    pthread_once(&once, make_domain);
    return made ? api->create_status(ABI_FAIL, "the kernels of adapters cannot be registered")
                : api->add_domain(session_options, domain);
}
