/**
 * One adapter on tokens: delta(x) = scaling * (act(x Wd + bd) Wu + bu), and y = skip + delta(x).
 *
 * Values are held in the array type of the adapter's tensors: Float64Array for F64, Float32Array for F32. Sums are doubles in both
 * cases, and each result is rounded once to the type that holds it.
 */

import { ACTIVATIONS } from './activations.mjs';
import { project } from './projection.mjs';

/**
 * @typedef {import('./projection.mjs').Tensor} Tensor
 * @typedef {import('./projection.mjs').Values} Values
 * @typedef {import('./projection.mjs').ProjectionTensors} ProjectionTensors
 *
 * @typedef {object} Site one adapter, ready to compute
 * @property {string} id
 * @property {'dense' | 'low_rank' | 'phm' | 'lphm'} kind
 * @property {string} nonLinearity a key of ACTIVATIONS
 * @property {number} hiddenSize d
 * @property {number} bottleneckSize k
 * @property {number | Tensor} scaling a number, or a trained one [1] or [d]
 * @property {{input: string, skip: string, post: boolean}} attach
 * @property {ProjectionTensors & {b?: Tensor}} down b [k]
 * @property {ProjectionTensors & {b?: Tensor}} up b [d]
 */

/**
 * delta(x).
 *
 * @param {Site} site
 * @param {Tensor} x [..., d]; axes of length 0 are fine
 * @returns {Tensor} of the shape and type of x
 */
export function delta(site, x) {
  checkTokens(site, x);
  const Held = x.values instanceof Float32Array ? Float32Array : Float64Array;
  const activation = ACTIVATIONS[site.nonLinearity];
  const z = Held.from(project(site.kind, site.down, x.values, site.hiddenSize, site.bottleneckSize));
  const a = z.map(activation);
  const sums = project(site.kind, site.up, a, site.bottleneckSize, site.hiddenSize);
  return { shape: x.shape, values: Held.from(scaled(site.scaling, sums)) };
}

/**
 * y = skip + delta(x).
 *
 * @param {Tensor} skip of the shape of x
 * @param {Tensor} change delta(x)
 * @returns {Tensor}
 */
export function add(skip, change) {
  if (skip.shape.join() !== change.shape.join()) {
    throw new RangeError(`shapes [${skip.shape}] and [${change.shape}] of a sum differ`);
  }
  return { shape: skip.shape, values: skip.values.map((value, i) => value + change.values[i]) };
}

/**
 * @param {number | Tensor} scaling
 * @param {Float64Array} sums [rows, d]
 * @returns {Float64Array} the products, in double precision
 */
function scaled(scaling, sums) {
  if (typeof scaling === 'number') return sums.map((value) => value * scaling);
  const { values } = scaling;
  return sums.map((value, i) => value * values[i % values.length]);
}

/**
 * @param {Site} site
 * @param {Tensor} x
 */
function checkTokens(site, x) {
  if (x.shape.at(-1) !== site.hiddenSize) {
    throw new RangeError(`input [${x.shape}] of site ${site.id}: the last axis is not ${site.hiddenSize}`);
  }
}
