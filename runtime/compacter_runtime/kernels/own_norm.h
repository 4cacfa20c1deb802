/* ONNX Runtime's own LayerNormalization, for runs without an adapter: they have the backbone's bits (LNK-2), which depend
   on the order of its sums. */
#ifndef COMPACTER_OWN_NORM_H
#define COMPACTER_OWN_NORM_H

#include "onnxruntime_abi.h"

#define SINCE 17 /* the version of the operator */

static abi_status *make_norm(const abi_functions *api, const void *info, float epsilon, void **made) {
    int64_t last = -1, single = 1;
    const char *types[] = {"T", "U"};
    const int values[] = {ABI_FLOAT, ABI_FLOAT};
    void *of[3] = {NULL};
    abi_status *status = api->create_attribute("axis", &last, 1, ABI_INTEGER_ATTRIBUTE, of);
    if (!status) status = api->create_attribute("epsilon", &epsilon, 1, ABI_FLOAT_ATTRIBUTE, of + 1);
    if (!status) status = api->create_attribute("stash_type", &single, 1, ABI_INTEGER_ATTRIBUTE, of + 2);
    if (!status)
        status = api->create_node(info, "LayerNormalization", "", SINCE, types, values, 2, (const void *const *)of, 3, 3,
                                  1, made);
    for (int i = 0; i < 3; i++)
        if (of[i]) api->release_attribute(of[i]);
    return status;
}

/* y = N(y), with the last two of so many inputs of an operator as gain and shift. */
static abi_status *run_norm(const abi_functions *api, const abi_context *context, const void *norm, size_t inputs,
                            abi_value *y) {
    const abi_value *given[3] = {y};
    abi_status *status = api->input(context, inputs - 2, given + 1);
    if (!status) status = api->input(context, inputs - 1, given + 2);
    return status ? status : api->run_node(context, norm, given, 3, &y, 1);
}

#endif
