/** Bytes at a position, from a file or from memory, so that a reader can check the header before it touches anything else. */

import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';

/**
 * @typedef {object} Source
 * @property {number} size in bytes
 * @property {(position: number, length: number) => Buffer} read a copy of exactly these bytes
 */

/**
 * @param {Uint8Array} bytes
 * @returns {Source}
 */
export function sourceOfBytes(bytes) {
  return {
    size: bytes.length,
    read: (position, length) => Buffer.from(bytes.subarray(position, position + length)),
  };
}

/**
 * Opens a file for the time of `use`.
 *
 * @template T
 * @param {string} path
 * @param {(source: Source) => T} use
 * @returns {T}
 */
export function withFile(path, use) {
  if (!statSync(path).isFile()) throw new Error(`${path} is no regular file`); // a pipe or a device may never end
  const descriptor = openSync(path, 'r');
  try {
    return use({
      size: fstatSync(descriptor).size,
      read: (position, length) => readFully(descriptor, position, length),
    });
  } finally {
    closeSync(descriptor);
  }
}

/**
 * @param {number} descriptor
 * @param {number} position
 * @param {number} length
 * @returns {Buffer}
 */
function readFully(descriptor, position, length) {
  const buffer = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const count = readSync(descriptor, buffer, filled, length - filled, position + filled);
    if (count === 0) throw new Error(`the file became shorter while it was read: ${position + filled} bytes are left`);
    filled += count;
  }
  return buffer;
}
