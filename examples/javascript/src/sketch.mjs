/** Sketches: up to 256 values of a weight, at positions that follow from its shape (SKT-1, SKT-5). */

import { elementCount } from './layout.mjs';

export const SKETCH_SIZE = 256;
const RELATIVE = 2 ** -8;
const ABSOLUTE = 2 ** -24;

/**
 * SplitMix64.
 *
 * @param {bigint} seed the state, 64 bits
 * @yields {bigint} 64 unsigned bits
 */
export function* splitMix64(seed) {
  let state = BigInt.asUintN(64, seed);
  for (;;) {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    yield z ^ (z >> 31n);
  }
}

/**
 * The sketched positions of an array, ascending.
 *
 * @param {number[]} shape
 * @returns {number[]} min(256, size) positions in row-major order
 */
export function sketchPositions(shape) {
  const size = elementCount(shape);
  if (size <= SKETCH_SIZE) return Array.from({ length: size }, (_, position) => position);
  const seed = shape.reduce((state, dimension) => BigInt.asUintN(64, (state << 32n) + BigInt(dimension)), 0n);
  const positions = new Set();
  for (const z of splitMix64(seed)) {
    positions.add(Number(z % BigInt(size)));
    if (positions.size === SKETCH_SIZE) break;
  }
  return [...positions].sort((one, other) => one - other);
}

/**
 * Whether an array is the sketched one, up to one rounding to BF16.
 *
 * @param {{shape: number[], values: Float32Array | Float64Array}} array a weight [in, out] or a bias [out]
 * @param {Float32Array | Float64Array} sketch
 * @returns {boolean}
 */
export function isSketched(array, sketch) {
  const positions = sketchPositions(array.shape);
  return (
    positions.length === sketch.length &&
    positions.every(
      (position, i) =>
        Math.abs(Math.fround(array.values[position]) - sketch[i]) <= RELATIVE * Math.abs(sketch[i]) + ABSOLUTE,
    )
  );
}
