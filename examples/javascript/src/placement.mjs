/** Where an adapter reads and writes: the result of a sublayer that has one. */

import { add, delta } from './adapter.mjs';

/**
 * @typedef {import('./projection.mjs').Tensor} Tensor
 * @typedef {(v: Tensor) => Tensor} Norm
 */

/**
 * The affine norm N(v) = gain * v + offset, elementwise.
 *
 * @param {Tensor} gain [d], or any shape that repeats along the leading axes of v
 * @param {Tensor} offset likewise
 * @returns {Norm}
 */
export function affineNorm(gain, offset) {
  return (v) => ({
    shape: v.shape,
    values: v.values.map(
      (value, i) => gain.values[i % gain.values.length] * value + offset.values[i % offset.values.length],
    ),
  });
}

/**
 * o = skip + delta(input); the sublayer's result is N(r + o) if post, else o.
 *
 * @param {import('./adapter.mjs').Site} site
 * @param {Tensor} r residual stream [..., d]
 * @param {Tensor} h output of the sublayer's last linear [..., d]
 * @param {Norm} norm the norm behind the residual sum; the identity on pre-norm backbones
 * @returns {Tensor} [..., d]
 */
export function sublayerResult(site, r, h, norm) {
  const { input, skip, post } = site.attach;
  const named = {
    sublayer_output: () => h,
    residual: () => r,
    residual_sum: () => add(r, h),
    normed_sum: () => norm(add(r, h)),
  };
  const o = add(named[skip](), delta(site, named[input]()));
  return post ? norm(add(r, o)) : o;
}
