/** The header of a container: which tensors there are and where, and the metadata (FMT-3 to FMT-13). */

import { CompacterError } from './errors.mjs';
import { Parser } from './json.mjs';
import { isRecord, JsonError } from './json_values.mjs';

export const MAX_DEPTH = 16;
const LIMITS = Object.freeze({ maxDepth: MAX_DEPTH });
const MAX_TENSORS = 65536;
const MAX_NAME_BYTES = 512;
const NAME = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;
const MAX_RANK = 4;
export const MAX_DIMENSION = 2 ** 31 - 1;
/** An entry is an object whose values may be lists: so many levels of it are kept. */
const ENTRY_LEVELS = 2;

const METADATA = '__metadata__';
const PREFIX = 'compacter.';
const VERSION_KEY = 'compacter.spec_version';
const CONFIG_KEY = 'compacter.config';

/** @type {Readonly<Record<string, number>>} bytes of one element */
const ITEM_SIZES = Object.freeze({ F64: 8, F32: 4, F16: 2, BF16: 2 });

/**
 * @typedef {object} Entry a tensor of a file
 * @property {'F64' | 'F32' | 'F16' | 'BF16'} dtype
 * @property {number[]} shape
 * @property {number} begin position of its first byte, counted from the end of the header
 * @property {number} end position behind its last byte
 *
 * @typedef {object} Metadata what this format reads of __metadata__
 * @property {string} [version] compacter.spec_version
 * @property {string} [config] compacter.config
 * @property {string} [foreign] another key that begins with `compacter.`
 */

/**
 * @param {string} code
 * @param {unknown} value
 * @param {string} expected
 * @param {string} [remedy]
 * @returns {CompacterError}
 */
export function refuse(code, value, expected, remedy = 'write the file again') {
  return new CompacterError({ code, value, expected, remedy });
}

/**
 * @param {string} text
 * @param {number} minDimension smallest dimension
 * @returns {{entries: Map<string, Entry>, metadata: Metadata}}
 * @throws {CompacterError} E103 to E111
 */
export function parseHeader(text, minDimension) {
  const { metadataStart, tensorCount } = surveyHeader(text);
  const metadata = metadataStart === null ? {} : readMetadata(text, metadataStart);
  if (tensorCount > MAX_TENSORS) throw refuse('E108', tensorCount, `at most ${MAX_TENSORS} tensors`, 'split the file');
  return { metadata, entries: readEntries(text, minDimension) };
}

/**
 * Checks the JSON of the whole header without keeping any of it: a hostile header would become many times larger as values.
 *
 * @param {string} text
 * @returns {{metadataStart: number | null, tensorCount: number}} where the value of __metadata__ begins
 */
function surveyHeader(text) {
  const parser = new Parser(text, LIMITS);
  let metadataStart = null;
  let tensorCount = 0;
  try {
    for (const name of parser.members(1)) {
      if (name === METADATA) metadataStart = parser.position;
      else tensorCount += 1;
      parser.value(2, 0);
    }
    parser.end();
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw refuse(error.kind === 'duplicate' ? 'E104' : 'E103', error.message, 'a header of one JSON object');
  }
  return { metadataStart, tensorCount };
}

/**
 * @param {string} text a header that was surveyed
 * @param {number} start of the value of __metadata__
 * @returns {Metadata}
 */
function readMetadata(text, start) {
  const parser = new Parser(text, LIMITS);
  parser.position = start;
  parser.skipSpace();
  if (text[parser.position] !== '{') throw refuse('E103', 'another value', '__metadata__ as an object');
  /** @type {Metadata} */
  const metadata = {};
  for (const key of parser.members(2)) {
    const value = parser.value(3, 0);
    if (typeof value !== 'string') throw refuse('E103', key, '__metadata__ as an object of strings');
    if (key === VERSION_KEY) metadata.version = value;
    else if (key === CONFIG_KEY) metadata.config = value;
    else if (key.startsWith(PREFIX)) metadata.foreign = key;
  }
  return metadata;
}

/**
 * @param {string} text a header that was surveyed
 * @param {number} minDimension
 * @returns {Map<string, Entry>}
 */
function readEntries(text, minDimension) {
  const parser = new Parser(text, LIMITS);
  const entries = new Map();
  for (const name of parser.members(1)) {
    const entry = parser.value(2, name === METADATA ? 0 : ENTRY_LEVELS);
    if (name === METADATA) continue;
    checkName(name);
    entries.set(name, readEntry(name, entry, minDimension));
  }
  return entries;
}

/** @param {string} name of a tensor */
function checkName(name) {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw refuse('E108', name, `a name of at most ${MAX_NAME_BYTES} bytes`);
  if (!NAME.test(name)) throw refuse('E109', name, 'words of [A-Za-z0-9_-] joined by dots');
}

/**
 * @param {string} name
 * @param {unknown} entry
 * @param {number} minDimension
 * @returns {Entry}
 */
function readEntry(name, entry, minDimension) {
  if (!isRecord(entry) || Object.keys(entry).sort().join() !== 'data_offsets,dtype,shape') {
    throw refuse('E111', name, 'an entry with dtype, shape and data_offsets');
  }
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(ITEM_SIZES, dtype))
    throw refuse('E110', dtype, 'F64, F32, F16 or BF16', `convert ${name}`);
  const isDimension = (size) => Number.isInteger(size) && size >= minDimension && size <= MAX_DIMENSION;
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isDimension)) {
    throw refuse('E107', shape, `at most ${MAX_RANK} dimensions from ${minDimension} to ${MAX_DIMENSION} for ${name}`);
  }
  if (
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(Number.isInteger) ||
    offsets[0] < 0 ||
    offsets[1] < offsets[0]
  ) {
    throw refuse('E105', offsets, `two integers 0 <= begin <= end for ${name}`);
  }
  const [begin, end] = offsets;
  const bytes = shape.reduce((product, size) => product * BigInt(size), BigInt(ITEM_SIZES[dtype]));
  if (BigInt(end - begin) !== bytes) throw refuse('E106', end - begin, `${bytes} bytes for ${name}`);
  return { dtype: /** @type {Entry['dtype']} */ (dtype), shape, begin, end };
}
