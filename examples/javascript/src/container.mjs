/** Step 1 of reading: the safetensors container, of which only the header is read (FMT-1 to FMT-3, FMT-14, FMT-15). */

import { parseHeader, refuse } from './header.mjs';

const LENGTH_BYTES = 8;
const MAX_HEADER = 16 * 1024 * 1024;
const BRACE = 0x7b;

/**
 * @typedef {import('./header.mjs').Entry} Entry positions are counted from the start of the file
 *
 * @typedef {object} Container
 * @property {Map<string, Entry>} entries tensors by name
 * @property {import('./header.mjs').Metadata} metadata
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
  const { entries, metadata } = parseHeader(decodeHeader(source.read(LENGTH_BYTES, headerLength)), minDimension);
  const dataStart = LENGTH_BYTES + headerLength;
  for (const entry of entries.values()) {
    entry.begin += dataStart;
    entry.end += dataStart;
  }
  checkTiling([...entries.values()], dataStart, source.size);
  return { entries, metadata };
}

/**
 * @param {import('./source.mjs').Source} source
 * @returns {number} L
 */
function readHeaderLength(source) {
  const start = source.read(0, Math.min(source.size, LENGTH_BYTES + 1));
  if (start.subarray(0, 4).equals(Buffer.from('PK\x03\x04', 'latin1')))
    throw refuse('E112', 'a zip archive', 'safetensors', 'convert it');
  if (start[0] === 0x80 && start[1] >= 2 && start[1] <= 5 && start[LENGTH_BYTES] !== BRACE) {
    throw refuse('E112', 'a pickle', 'safetensors', 'convert it where you trust it');
  }
  if (source.size < LENGTH_BYTES) throw refuse('E101', source.size, 'at least 8 bytes');
  const length = start.readBigUInt64LE();
  if (length > MAX_HEADER) throw refuse('E102', length, `a header of at most ${MAX_HEADER} bytes`);
  if (LENGTH_BYTES + Number(length) > source.size)
    throw refuse('E101', length, `a header within the file's ${source.size} bytes`);
  return Number(length);
}

/**
 * @param {Buffer} bytes
 * @returns {string}
 */
function decodeHeader(bytes) {
  if (bytes[0] !== BRACE) throw refuse('E103', bytes[0], 'a header that begins with {');
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw refuse('E103', error.message, 'a header in UTF-8');
  }
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
