/* ONNX Runtime's own LayerNormalization, for runs without an adapter: they have the backbone's bits (LNK-2), which depend
   on the order of its sums. */
#ifndef COMPACTER_OWN_NORM_H
#define COMPACTER_OWN_NORM_H

#include "onnxruntime_abi.h"

#define SINCE 17 /* the version of the operator */

typedef struct {
    void *node, *memory; /* NULL where there is none */
} own_norm;

static abi_status *make_norm(const abi_functions *api, const void *info, float epsilon, own_norm *made) {
    int64_t last = -1, single = 1;
    const char *types[] = {"T", "U"};
    const int values[] = {ABI_FLOAT, ABI_FLOAT};
    void *of[3] = {NULL};
    abi_status *status = api->create_attribute("axis", &last, 1, ABI_INTEGER_ATTRIBUTE, of);
    if (!status) status = api->create_attribute("epsilon", &epsilon, 1, ABI_FLOAT_ATTRIBUTE, of + 1);
    if (!status) status = api->create_attribute("stash_type", &single, 1, ABI_INTEGER_ATTRIBUTE, of + 2);
    if (!status)
        status = api->create_node(info, "LayerNormalization", "", SINCE, types, values, 2, (const void *const *)of, 3, 3,
                                  1, &made->node);
    if (!status) status = api->create_memory(ABI_DEVICE_ALLOCATOR, ABI_MEMORY_OF_PROVIDER, &made->memory);
    for (int i = 0; i < 3; i++)
        if (of[i]) api->release_attribute(of[i]);
    return status;
}

/* A vector [d] of ours as ONNX Runtime takes it. */
static abi_status *view(const abi_functions *api, const void *memory, const float *data, int64_t d, abi_value **made) {
    return api->create_value(memory, (void *)data, sizeof(float) * d, &d, 1, ABI_FLOAT, made);
}

/* y = N(y). */
static abi_status *run_norm(const abi_functions *api, const abi_context *context, const own_norm *norm, const float *gain,
                            const float *shift, int64_t d, abi_value *y) {
    abi_value *scale = NULL, *bias = NULL;
    abi_status *status = view(api, norm->memory, gain, d, &scale);
    if (!status) status = view(api, norm->memory, shift, d, &bias);
    const abi_value *given[3] = {y, scale, bias};
    if (!status) status = api->run_node(context, norm->node, given, 3, &y, 1);
    if (scale) api->release_value(scale);
    if (bias) api->release_value(bias);
    return status;
}

static void release_norm(const abi_functions *api, own_norm *norm) {
    if (norm->node) api->release_node(norm->node);
    if (norm->memory) api->release_memory(norm->memory);
}

#endif
