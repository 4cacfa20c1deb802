/** Files made to exhaust a reader: each is refused with its code, in a process of its own, within time and memory (SEC-1, SEC-2). */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const MEBIBYTE = 2 ** 20;
const FULL = 16 * MEBIBYTE;
/** What the conformance runner grants to cases of limits. */
const LIMIT = { seconds: 20, mebibytes: 256 };

const folder = mkdtempSync(join(tmpdir(), 'compacter-'));
after(() => rmSync(folder, { recursive: true }));

/**
 * @param {string} header
 * @returns {Buffer} a file without tensors
 */
function fileOf(header) {
  const bytes = Buffer.alloc(8 + Buffer.byteLength(header));
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8));
  bytes.write(header, 8);
  return bytes;
}

/**
 * @param {string} piece
 * @param {number} [length] about so many characters
 * @returns {string}
 */
const fill = (piece, length = FULL - 100) => piece.repeat(Math.floor(length / piece.length));

const config = (text) =>
  fileOf(JSON.stringify({ __metadata__: { 'compacter.spec_version': '1.0', 'compacter.config': text } }));
const manyKeys = Array.from({ length: 1.6e6 }, (_, i) => `"${i.toString(36).padStart(5, '_')}":1`);

const FILES = {
  'lists nested 200,000 deep': ['E103', () => fileOf(`{"a":${fill('[', 200000)}`)],
  'objects nested 200,000 deep in the configuration': ['E202', () => config(fill('{"a":', 1000000))],
  'a header length of 2^64 - 1': ['E102', () => Buffer.alloc(64, 0xff)],
  'millions of keys': ['E108', () => fileOf(`{${manyKeys}}`)],
  'millions of keys in an entry': ['E111', () => fileOf(`{"a":{${manyKeys}}}`)],
  'millions of keys in the metadata': ['E103', () => fileOf(`{"__metadata__":{${manyKeys}}}`)],
  'millions of objects': ['E111', () => fileOf(`{"a":[${fill('{},')}{}]}`)],
  'millions of lists': ['E111', () => fileOf(`{"a":{"b":[${fill('[[]],')}[]]}}`)],
  'millions of numbers as a shape': [
    'E107',
    () => fileOf(`{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[${fill('1,')}1]}}`),
  ],
  'an endless number': ['E103', () => fileOf(`{"a":${fill('1')}}`)],
  'an endless name of escapes': [
    'E108',
    () => fileOf(`{"${fill('\\u0061')}":{"dtype":"F32","data_offsets":[0,4],"shape":[1]}}`),
  ],
  'an endless configuration': ['E202', () => config(fill(' '))],
  'a configuration of empty lists': [
    'E203',
    () => config(`{"spec_version":"1.0","training":[${fill('[],', 1000000)}[]]}`),
  ],
  'white space': ['E201', () => fileOf(`{${fill(' ')}}`)],
  'no end': ['E103', () => fileOf(`{"a":"${fill('x')}`)],
};

for (const [name, [expected, build]] of Object.entries(FILES)) {
  test(name, () => {
    const path = join(folder, 'adapter.safetensors');
    writeFileSync(path, build());
    const output = execFileSync(process.execPath, [join(import.meta.dirname, 'measure_read.mjs'), path], {
      timeout: LIMIT.seconds * 1000,
    });
    const { code, kibibytes } = JSON.parse(output.toString());
    assert.equal(code, expected);
    assert.ok(kibibytes * 1024 < LIMIT.mebibytes * MEBIBYTE, `${Math.round(kibibytes / 1024)} MiB`);
  });
}
