/** Step 1 of reading: the safetensors container, from its header alone (FMT-1 to FMT-15). */

import { CompacterError } from './errors.mjs';
import { isRecord, JsonError, parseJson } from './json.mjs';

const LENGTH_BYTES = 8;
const MAX_HEADER = 16 * 1024 * 1024;
export const MAX_DEPTH = 16;
const MAX_TENSORS = 65536;
const MAX_NAME_BYTES = 512;
const NAME = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;
const MAX_RANK = 4;
export const MAX_DIMENSION = 2 ** 31 - 1;
const BRACE = 0x7b;

/** @type {Readonly<Record<string, number>>} bytes of one element */
export const ITEM_SIZES = Object.freeze({ F64: 8, F32: 4, F16: 2, BF16: 2 });

/**
 * @typedef {object} Entry a tensor of a file
 * @property {'F64' | 'F32' | 'F16' | 'BF16'} dtype
 * @property {number[]} shape
 * @property {number} begin position of its first byte in the file
 * @property {number} end position behind its last byte
 *
 * @typedef {object} Container
 * @property {Map<string, Entry>} entries tensors by name
 * @property {Record<string, string>} metadata
 */

/**
 * Reads and checks the header.
 *
 * @param {import('./source.mjs').Source} source
 * @param {object} [options]
 * @param {number} [options.minDimension] smallest dimension; 1 in adapter files, 0 for tensors that are no adapter
 * @returns {Container}
 * @throws {CompacterError} E101 to E112
 */
export function readContainer(source, { minDimension = 1 } = {}) {
  const headerLength = readHeaderLength(source);
  const header = parseHeader(source.read(LENGTH_BYTES, headerLength));
  const metadata = checkMetadata(header.__metadata__);
  const names = Object.keys(header).filter((name) => name !== '__metadata__');
  if (names.length > MAX_TENSORS) throw refuse('E108', names.length, `at most ${MAX_TENSORS} tensors`, 'split the file');
  const dataStart = LENGTH_BYTES + headerLength;
  const entries = new Map();
  for (const name of names) {
    checkName(name);
    entries.set(name, readEntry(name, header[name], dataStart, minDimension));
  }
  checkTiling([...entries.values()], dataStart, source.size);
  return { entries, metadata };
}

/**
 * @param {string} code
 * @param {unknown} value
 * @param {string} expected
 * @param {string} [remedy]
 * @returns {CompacterError}
 */
function refuse(code, value, expected, remedy = 'write the file again') {
  return new CompacterError({ code, value, expected, remedy });
}

/**
 * @param {import('./source.mjs').Source} source
 * @returns {number} L
 */
function readHeaderLength(source) {
  const start = source.read(0, Math.min(source.size, LENGTH_BYTES + 1));
  if (start.subarray(0, 4).equals(Buffer.from('PK\x03\x04', 'latin1'))) throw refuse('E112', 'a zip archive', 'safetensors', 'convert it');
  if (start[0] === 0x80 && start[1] >= 2 && start[1] <= 5 && start[LENGTH_BYTES] !== BRACE) {
    throw refuse('E112', 'a pickle', 'safetensors', 'convert it where you trust it');
  }
  if (source.size < LENGTH_BYTES) throw refuse('E101', source.size, 'at least 8 bytes');
  const length = start.readBigUInt64LE();
  if (length > MAX_HEADER) throw refuse('E102', length, `a header of at most ${MAX_HEADER} bytes`);
  if (LENGTH_BYTES + Number(length) > source.size) throw refuse('E101', length, `a header within the file's ${source.size} bytes`);
  return Number(length);
}

/**
 * @param {Buffer} bytes
 * @returns {object} a Record
 */
function parseHeader(bytes) {
  if (bytes[0] !== BRACE) throw refuse('E103', bytes[0], 'a header that begins with {');
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw refuse('E103', error.message, 'a header in UTF-8');
  }
  try {
    return /** @type {object} */ (parseJson(text, { maxDepth: MAX_DEPTH }));
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw refuse(error.kind === 'duplicate' ? 'E104' : 'E103', error.message, 'a header of one JSON object');
  }
}

/**
 * @param {unknown} metadata
 * @returns {Record<string, string>} empty if there is none
 */
function checkMetadata(metadata) {
  if (metadata === undefined) return {};
  if (!isRecord(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw refuse('E103', 'another value', '__metadata__ as an object of strings');
  }
  return metadata;
}

/** @param {string} name of a tensor */
function checkName(name) {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw refuse('E108', name, `a name of at most ${MAX_NAME_BYTES} bytes`);
  if (!NAME.test(name)) throw refuse('E109', name, 'words of [A-Za-z0-9_-] joined by dots');
}

/**
 * @param {string} name
 * @param {unknown} entry
 * @param {number} dataStart
 * @param {number} minDimension
 * @returns {Entry}
 */
function readEntry(name, entry, dataStart, minDimension) {
  if (!isRecord(entry) || Object.keys(entry).sort().join() !== 'data_offsets,dtype,shape') {
    throw refuse('E111', name, 'an entry with dtype, shape and data_offsets');
  }
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(ITEM_SIZES, dtype)) throw refuse('E110', dtype, 'F64, F32, F16 or BF16', `convert ${name}`);
  const isDimension = (size) => Number.isInteger(size) && size >= minDimension && size <= MAX_DIMENSION;
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isDimension)) {
    throw refuse('E107', shape, `at most ${MAX_RANK} dimensions from ${minDimension} to ${MAX_DIMENSION} for ${name}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(Number.isInteger) || offsets[0] < 0 || offsets[1] < offsets[0]) {
    throw refuse('E105', offsets, `two integers 0 <= begin <= end for ${name}`);
  }
  const [begin, end] = offsets;
  const bytes = shape.reduce((product, size) => product * BigInt(size), BigInt(ITEM_SIZES[dtype]));
  if (BigInt(end - begin) !== bytes) throw refuse('E106', end - begin, `${bytes} bytes for ${name}`);
  return { dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/**
 * @param {Entry[]} entries
 * @param {number} dataStart
 * @param {number} fileSize
 */
function checkTiling(entries, dataStart, fileSize) {
  entries.sort((one, other) => one.begin - other.begin || one.end - other.end);
  let position = dataStart;
  for (const { begin, end } of entries) {
    if (begin !== position) throw refuse('E105', begin, `a tensor that begins at byte ${position}`);
    position = end;
  }
  if (position > fileSize) throw refuse('E101', fileSize, `a file of ${position} bytes`, 'fetch it again');
  if (position < fileSize) throw refuse('E105', fileSize, `a file of ${position} bytes`);
}
