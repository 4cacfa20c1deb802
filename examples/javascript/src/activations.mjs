/** The six non-linearities, each on one double. */

import { erfc } from './erf.mjs';

const SQRT_TWO_OVER_PI = 0.7978845608028654;

/**
 * z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))).
 *
 * @param {number} z
 * @returns {number}
 */
function geluNew(z) {
  return 0.5 * z * (1 + Math.tanh(SQRT_TWO_OVER_PI * z * (1 + 0.044715 * z * z)));
}

/**
 * z/2 (1 + erf(z / sqrt 2)), written with 1 + erf(v) = erfc(-v) so that nothing cancels for large negative z.
 *
 * @param {number} z
 * @returns {number}
 */
function gelu(z) {
  return 0.5 * z * erfc(-z * Math.SQRT1_2);
}

/**
 * z / (1 + exp(-z)).
 *
 * @param {number} z
 * @returns {number}
 */
function silu(z) {
  return z / (1 + Math.exp(-z));
}

/** @type {Readonly<Record<string, (z: number) => number>>} value of `non_linearity` to function */
export const ACTIVATIONS = Object.freeze({
  gelu_new: geluNew,
  gelu,
  relu: (z) => Math.max(z, 0), // NaN stays NaN
  silu,
  tanh: Math.tanh,
  identity: (z) => z,
});
