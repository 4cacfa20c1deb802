/* The operators: what their names say. */
#ifndef COMPACTER_OPERATOR_H
#define COMPACTER_OPERATOR_H

#include <stdio.h>

#include "onnxruntime_abi.h"

static const char *const ACTIVATIONS[] = {"gelu_new", "gelu", "relu", "silu", "tanh", "identity"};
static const char *const KINDS[] = {"Delta", "Residual", "Norm"};
static const char *const BIASED[] = {"", "_bd", "_bu", "_bd_bu", "_bd_bu_b"};
static const char *const WEIGHTS[] = {"",           "factors_",   "factors_sites_", "bank_dense_", "bank_low_rank_",
                                      "bank_phm_", "bank_lphm_"};
enum kind { DELTA, RESIDUAL, NORM };
enum weights { DENSE, FACTORS, FACTORS_OF_SITES, BANK_DENSE, BANK_LOW_RANK, BANK_PHM, BANK_LPHM, WEIGHTS_COUNT };
enum { BIASES = 5, ACTIVATED = BIASES * sizeof ACTIVATIONS / sizeof *ACTIVATIONS, OF_KIND = WEIGHTS_COUNT * ACTIVATED };
enum { MOST_INPUTS = 14, OPERATORS = (NORM + 1) * OF_KIND };

typedef struct {
    abi_operator shared; /* first: ONNX Runtime hands out its address */
    enum kind kind;
    enum weights weights;
    long activation;
    int has_factors, has_rule, is_of_bank, is_by_site, has_bd, has_bu, has_b;
    char name[64];
} operator;

static int count_inputs(const operator *of) {
    return 3 + (of->kind != DELTA) + of->is_of_bank + 2 * of->has_rule + 2 * of->has_factors + of->has_bd + of->has_bu + of->has_b +
           2 * (of->kind == NORM);
}

/* Which input says the entries of a bank that rows have. */
static size_t entry_at(const operator *of) { return 1 + (of->kind != DELTA); }

/* The operator of each name, by its place among all. */
static void describe(int place, operator *into) {
    enum weights weights = place % OF_KIND / ACTIVATED;
    int biases = place % BIASES;
    into->kind = place / OF_KIND;
    into->weights = weights;
    into->activation = place % ACTIVATED / BIASES;
    into->has_factors = weights != DENSE && weights != BANK_DENSE && weights != BANK_PHM;
    into->has_rule = weights == BANK_PHM || weights == BANK_LPHM;
    into->is_of_bank = weights >= BANK_DENSE;
    into->is_by_site = weights == FACTORS_OF_SITES;
    into->has_b = biases == BIASES - 1;
    into->has_bd = into->has_b || (biases & 1), into->has_bu = into->has_b || (biases >> 1);
    snprintf(into->name, sizeof into->name, "%s_%s%s%s_FLOAT", KINDS[into->kind], WEIGHTS[weights],
             ACTIVATIONS[into->activation], BIASED[biases]);
}

#endif
