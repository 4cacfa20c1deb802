/* Operators for ONNX Runtime that stand in for the functions of grafted models (ONX-36, ONX-54), under their names:

       Delta_<activation>[_bd][_bu]_FLOAT(x, Wd, [bd,] Wu [, bu])          y = act(x Wd + bd) Wu + bu
       Residual_<activation>[_bd][_bu]_FLOAT(x, r, Wd, [bd,] Wu [, bu])    y = r + (x + (act(x Wd + bd) Wu + bu))
       Norm_<activation>[_bd][_bu]_FLOAT(x, r, Wd, [bd,] Wu [, bu], gain, shift)    the layer norm of that, with epsilon

   One pass over the rows, on the session's own threads. A session where this library is not registered puts the
   functions in the place of their calls.
*/
#include <pthread.h>
#include <stdio.h>

#include "onnxruntime_abi.h"
#include "rows.h"

#define DOMAIN "ai.compacter"
#define PRODUCTS_OF_A_PART 100000 /* starting a thread for fewer takes longer than it saves */
#define MAX_RANK 8

static const char *const ACTIVATIONS[] = {"gelu_new", "gelu", "relu", "silu", "tanh", "identity"};
static const char *const KINDS[] = {"Delta", "Residual", "Norm"};
enum kind { DELTA, RESIDUAL, NORM };
enum { MOST_INPUTS = 8, OF_KIND = 4 * sizeof ACTIVATIONS / sizeof *ACTIVATIONS, OPERATORS = (NORM + 1) * OF_KIND };

typedef struct {
    abi_operator shared; /* first: ONNX Runtime hands out its address */
    enum kind kind;
    long activation;
    int has_bd, has_bu;
    char name[48];
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
    adapter of;
    long rows, tiles, parts;
    int failed;
} job;

static int count_inputs(const operator *of) {
    return 3 + (of->kind != DELTA) + of->has_bd + of->has_bu + 2 * (of->kind == NORM);
}

/* ---- A run. ---- */

/* The first row of a part; parts are whole tiles. */
static long start_of(const job *whole, long part) {
    return least(whole->tiles * part / whole->parts * TILE, whole->rows);
}

static void run_part(void *data, size_t part) {
    job *whole = data;
    float *a = malloc(sizeof(float) * TILE * padded(whole->of.k) + 1);
    if (a)
        adapt(&whole->of, start_of(whole, part), start_of(whole, part + 1), a);
    else
        __atomic_store_n(&whole->failed, 1, __ATOMIC_RELAXED);
    free(a);
}

/* A power of two, which most numbers of threads share out evenly. */
static long count_parts(const job *whole) {
    double products = 2.0 * whole->rows * whole->of.d * (whole->of.k + 1);
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

static int is_shaped(const tensor *one, size_t rank, int64_t first, int64_t second) {
    return one->rank == rank && one->sizes[0] == first && (rank == 1 || one->sizes[1] == second);
}

static int is_like(const tensor *one, const tensor *other) {
    return one->rank == other->rank && !memcmp(one->sizes, other->sizes, sizeof(int64_t) * one->rank);
}

/* A vector among the inputs, of as many numbers; NULL where the operator has none. */
static const float *vector(int is_there, const tensor **next, int64_t size, int *fit) {
    if (!is_there) return NULL;
    *fit &= is_shaped(*next, 1, size, 0);
    return (*next)++->data;
}

/* Takes the inputs in their order; returns whether they fit together. */
static int fits(const operator *of, const tensor *x, adapter *into) {
    const tensor *next = x + 1, *r = of->kind == DELTA ? x : next++, *Wd = next++;
    if (!x->rank || Wd->rank != 2) return 0;
    int64_t d = x->sizes[x->rank - 1], k = Wd->sizes[1];
    int fit = is_like(r, x) && Wd->sizes[0] == d;
    *into = (adapter){.d = d, .k = k, .activation = of->activation, .x = x->data, .Wd = Wd->data};
    if (of->kind != DELTA) into->r = r->data;
    into->bd = vector(of->has_bd, &next, k, &fit);
    fit &= is_shaped(next, 2, k, d);
    into->Wu = next++->data;
    into->bu = vector(of->has_bu, &next, d, &fit);
    into->gain = vector(of->kind == NORM, &next, d, &fit);
    into->shift = vector(of->kind == NORM, &next, d, &fit);
    return fit;
}

static abi_status *compute(void *data, abi_context *context) {
    const kernel *self = data;
    const abi_functions *api = self->api;
    tensor given[MOST_INPUTS];
    abi_value *output;
    abi_status *status = NULL;
    job whole = {.rows = 1};
    for (int i = 0; i < count_inputs(self->of); i++)
        if ((status = read_input(api, context, i, given + i))) return status;
    if (!fits(self->of, given, &whole.of))
        return api->create_status(ABI_INVALID_ARGUMENT, "the tensors of an adapter and its input do not fit together");
    whole.of.epsilon = self->epsilon;
    if ((status = api->output(context, 0, given->sizes, given->rank, &output))) return status;
    if ((status = api->data_of(output, (void **)&whole.of.y))) return status;
    for (size_t axis = 0; axis + 1 < given->rank; axis++) whole.rows *= given->sizes[axis];
    if (!whole.rows || !whole.of.d) return NULL;
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
        one->activation = i % OF_KIND / 4;
        one->has_bd = i & 1, one->has_bu = i >> 1 & 1;
        if (one->kind != DELTA) one->shared.may_overwrite = may_overwrite;
        snprintf(one->name, sizeof one->name, "%s_%s%s%s_FLOAT", KINDS[one->kind], ACTIVATIONS[one->activation],
                 one->has_bd ? "_bd" : "", one->has_bu ? "_bu" : "");
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
