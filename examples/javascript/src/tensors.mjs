/** Tensor bytes: decoding, digests, the checks of values (step 5 of reading), and writing tensors as safetensors. */

import { createHash } from 'node:crypto';
import { endianness } from 'node:os';

import { CompacterError } from './errors.mjs';

/**
 * @typedef {import('./source.mjs').Source} Source
 * @typedef {import('./header.mjs').Entry} Entry
 * @typedef {import('./projection.mjs').Tensor} Tensor
 */

const CHUNK_BYTES = 1 << 20;

/** Per type: the array of the words that hold its exponent, their place in the item, and the exponent's bits. */
const EXPONENTS = Object.freeze({
  F64: { Words: Uint32Array, stride: 2, first: 1, mask: 0x7ff00000 },
  F32: { Words: Uint32Array, stride: 1, first: 0, mask: 0x7f800000 },
  F16: { Words: Uint16Array, stride: 1, first: 0, mask: 0x7c00 },
  BF16: { Words: Uint16Array, stride: 1, first: 0, mask: 0x7f80 },
});

if (endianness() !== 'LE')
  throw new Error('typed arrays of this machine are big-endian; tensors are stored little-endian');

/**
 * Bytes of one tensor, piece by piece, in multiples of its item.
 *
 * @param {Source} source
 * @param {Entry} entry
 * @yields {Buffer}
 */
function* piecesOf(source, { begin, end }) {
  for (let position = begin; position < end; position += CHUNK_BYTES) {
    yield source.read(position, Math.min(CHUNK_BYTES, end - position));
  }
}

/**
 * @param {Source} source
 * @param {Entry} entry
 * @returns {string} SHA-256 of the tensor's bytes in hexadecimal digits
 */
export function digest(source, entry) {
  const hash = createHash('sha256');
  for (const piece of piecesOf(source, entry)) hash.update(piece);
  return hash.digest('hex');
}

/**
 * Refuses a tensor with a NaN or an infinity (FMT-24).
 *
 * @param {Source} source
 * @param {string} name
 * @param {Entry} entry
 * @throws {CompacterError} E306
 */
export function checkFinite(source, name, entry) {
  const { Words, stride, first, mask } = EXPONENTS[entry.dtype];
  for (const piece of piecesOf(source, entry)) {
    const words = viewAs(Words, piece);
    for (let i = first; i < words.length; i += stride) {
      if ((words[i] & mask) === mask) {
        throw new CompacterError({
          code: 'E306',
          value: name,
          expected: 'finite values',
          remedy: 'train again, or save it before it diverges',
        });
      }
    }
  }
}

/**
 * @template {Uint16ArrayConstructor | Uint32ArrayConstructor | Float32ArrayConstructor | Float64ArrayConstructor} T
 * @param {T} Type
 * @param {Buffer} bytes
 * @returns {InstanceType<T>} over the same bytes, or over a copy where they are not aligned
 */
function viewAs(Type, bytes) {
  const aligned = bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0 ? bytes : Uint8Array.from(bytes);
  const { buffer, byteOffset } = aligned;
  return /** @type {any} */ (
    new Type(/** @type {ArrayBuffer} */ (buffer), byteOffset, bytes.length / Type.BYTES_PER_ELEMENT)
  );
}

/**
 * The values of a tensor: F64 as Float64Array, all other types, exactly, as Float32Array.
 *
 * @param {Source} source
 * @param {Entry} entry
 * @returns {Tensor}
 */
export function readTensor(source, { dtype, shape, begin, end }) {
  const bytes = source.read(begin, end - begin);
  switch (dtype) {
    case 'F64':
      return { shape, values: viewAs(Float64Array, bytes) };
    case 'F32':
      return { shape, values: viewAs(Float32Array, bytes) };
    case 'BF16':
      return {
        shape,
        values: new Float32Array(Uint32Array.from(viewAs(Uint16Array, bytes), (half) => half << 16).buffer),
      };
    case 'F16':
      return { shape, values: Float32Array.from(viewAs(Uint16Array, bytes), halfToNumber) };
    default:
      throw new RangeError(`unknown type ${dtype}`);
  }
}

/**
 * @param {number} half the 16 bits of a binary16
 * @returns {number}
 */
function halfToNumber(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/**
 * A safetensors file with these tensors.
 *
 * @param {Record<string, Tensor>} tensors their arrays decide the types: Float64Array F64, Float32Array F32
 * @returns {Buffer}
 */
export function writeTensors(tensors) {
  const header = {};
  const pieces = [];
  let position = 0;
  const sizeOf = ([, { values }]) => values.BYTES_PER_ELEMENT;
  for (const [name, { shape, values }] of Object.entries(tensors).sort((one, other) => sizeOf(other) - sizeOf(one))) {
    const dtype = values instanceof Float64Array ? 'F64' : 'F32';
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    header[name] = { dtype, shape, data_offsets: [position, position + bytes.length] };
    pieces.push(bytes);
    position += bytes.length;
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(text.length + ((8 - (Buffer.byteLength(text) % 8)) % 8)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...pieces]);
}
