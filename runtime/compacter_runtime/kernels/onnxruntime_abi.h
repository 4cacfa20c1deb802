/* The part of ONNX Runtime's C interface that custom operators need. Its packages for Python come without the header, but
   the interface is stable: functions keep their places in the table, and structures only grow at the end. What is not
   used here is a gap. */
#ifndef COMPACTER_ONNXRUNTIME_ABI_H
#define COMPACTER_ONNXRUNTIME_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ABI_VERSION 24 /* of ONNX Runtime 1.24, since which the sizes of a value can be had without copying them */

enum { ABI_FLOAT = 1, ABI_INTEGER = 7, ABI_REQUIRED = 0, ABI_INVALID_ARGUMENT = 2, ABI_FAIL = 1 };
enum { ABI_MEMORY_OF_PROVIDER = 0, ABI_DEVICE_ALLOCATOR = 0 };
enum { ABI_INTEGER_ATTRIBUTE = 1, ABI_FLOAT_ATTRIBUTE = 3 };

typedef void abi_status; /* NULL where all is well */
typedef void abi_value;
typedef void abi_context;
typedef void (*abi_task)(void *data, size_t index);
typedef void (*abi_gap)(void);

typedef struct {
    abi_status *(*create_status)(int code, const char *message);
    abi_gap gap_1[25];
    abi_status *(*create_domain)(const char *name, void **domain);
    abi_status *(*add_operator)(void *domain, const void *operator);
    abi_status *(*add_domain)(void *session_options, void *domain);
    abi_gap gap_29[20];
    abi_status *(*create_value)(const void *memory, void *data, size_t bytes, const int64_t *sizes, size_t rank, int type,
                                abi_value **value);
    abi_gap gap_50[1];
    abi_status *(*data_of)(abi_value *value, void **data);
    abi_gap gap_52[17];
    abi_status *(*create_memory)(int allocator, int type, void **memory);
    abi_gap gap_70[15];
    abi_status *(*float_of)(const void *info, const char *attribute, float *value);
    abi_status *(*integer_of)(const void *info, const char *attribute, int64_t *value);
    abi_gap gap_87[3];
    abi_status *(*input)(const abi_context *context, size_t index, const abi_value **value);
    abi_status *(*output)(abi_context *context, size_t index, const int64_t *sizes, size_t rank, abi_value **value);
    abi_gap gap_92[2];
    void (*release_memory)(void *memory);
    abi_gap gap_95[1];
    void (*release_value)(abi_value *value);
    abi_gap gap_97[114];
    abi_status *(*create_attribute)(const char *name, const void *data, int length, int type, void **attribute);
    void (*release_attribute)(void *attribute);
    abi_status *(*create_node)(const void *info, const char *operator, const char *domain, int version, const char **types,
                               const int *values, int type_count, const void *const *attributes, int attribute_count,
                               int inputs, int outputs, void **node);
    abi_status *(*run_node)(const abi_context *context, const void *node, const abi_value *const *inputs, int input_count,
                            abi_value *const *outputs, int output_count);
    void (*release_node)(void *node);
    abi_gap gap_216[58];
    abi_status *(*parallel_for)(const abi_context *context, abi_task task, size_t tasks, size_t batches, void *data);
    abi_gap gap_275[139];
    abi_status *(*sizes_of)(const abi_value *value, int *type, const int64_t **sizes, size_t *rank);
} abi_functions;

_Static_assert(offsetof(abi_functions, create_value) == 49 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, data_of) == 51 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, create_memory) == 69 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, integer_of) == 86 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, output) == 91 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, release_value) == 96 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, create_attribute) == 211 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, parallel_for) == 274 * sizeof(abi_gap), "a place in the table");
_Static_assert(offsetof(abi_functions, sizes_of) == 414 * sizeof(abi_gap), "a place in the table");

typedef struct {
    const abi_functions *(*functions)(uint32_t version); /* NULL for an older ONNX Runtime */
    const char *(*version)(void);
} abi_base;

typedef struct abi_operator abi_operator;

/* What describes an operator. Gaps are functions of older or other kinds of operators, which are not asked for. */
struct abi_operator {
    uint32_t version;
    abi_gap create_older;
    const char *(*name)(const abi_operator *self);
    const char *(*provider)(const abi_operator *self);
    int (*input_type)(const abi_operator *self, size_t index);
    size_t (*inputs)(const abi_operator *self);
    int (*output_type)(const abi_operator *self, size_t index);
    size_t (*outputs)(const abi_operator *self);
    abi_gap compute_older;
    void (*destroy)(void *kernel);
    int (*input_kind)(const abi_operator *self, size_t index);
    int (*output_kind)(const abi_operator *self, size_t index);
    int (*input_memory)(const abi_operator *self, size_t index);
    abi_gap of_variadic_ones[4];
    abi_status *(*create)(const abi_operator *self, const abi_functions *functions, const void *info, void **kernel);
    abi_status *(*compute)(void *kernel, abi_context *context);
    abi_gap infer_shapes;
    int (*first_version)(const abi_operator *self);
    int (*last_version)(const abi_operator *self);
    size_t (*may_overwrite)(int **inputs, int **outputs);
    void (*release_may_overwrite)(int *inputs, int *outputs);
    size_t (*aliases)(int **inputs, int **outputs);
    void (*release_aliases)(int *inputs, int *outputs);
};

#endif
