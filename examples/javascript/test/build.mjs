/** Small adapters for tests. */

import { writeTensors } from '../src/tensors.mjs';

/**
 * A valid configuration: dense, d = 2, k = 1.
 *
 * @param {object} [changes] keys to replace; a value undefined removes the key
 * @returns {Record<string, any>}
 */
export function configOf(changes = {}) {
  return {
    spec_version: '1.0',
    method: 'test',
    name: 'a',
    hidden_size: 2,
    projection: { kind: 'dense' },
    sites: [{ id: 'encoder.0.ffn', bottleneck_size: 1 }],
    ...changes,
  };
}

/**
 * @param {number[]} shape
 * @param {number[]} numbers
 * @returns {import('../src/projection.mjs').Tensor}
 */
export function tensor(shape, numbers, Held = Float64Array) {
  return { shape, values: Held.from(numbers) };
}

/** The tensors that `configOf()` asks for. */
export const TENSORS = Object.freeze({
  'site.encoder.0.ffn.down.W': tensor([2, 1], [1, 2]),
  'site.encoder.0.ffn.down.b': tensor([1], [-1]),
  'site.encoder.0.ffn.up.W': tensor([1, 2], [3, -1]),
  'site.encoder.0.ffn.up.b': tensor([2], [0.5, 0]),
});

/**
 * @param {object} header with `__metadata__` and entries
 * @param {Uint8Array} [data]
 * @returns {Buffer}
 */
export function fileOf(header, data = new Uint8Array(0)) {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

/**
 * @param {object | string} config
 * @param {Record<string, import('../src/projection.mjs').Tensor>} [tensors]
 * @returns {Buffer} an adapter file
 */
export function adapterFile(config = configOf(), tensors = TENSORS) {
  const plain = writeTensors(tensors);
  const end = 8 + Number(plain.readBigUInt64LE());
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  const metadata = { 'compacter.spec_version': '1.0', 'compacter.config': text };
  return fileOf({ __metadata__: metadata, ...JSON.parse(plain.toString('utf8', 8, end)) }, plain.subarray(end));
}
