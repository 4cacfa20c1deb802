/** SplitMix64 against its published output, positions, tolerance, and the comparison with a backbone. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CompacterError } from '../src/errors.mjs';
import { matchBackbone } from '../src/match.mjs';
import { readAdapter } from '../src/reader.mjs';
import { isSketched, sketchPositions, splitMix64 } from '../src/sketch.mjs';
import { sourceOfBytes } from '../src/source.mjs';
import { adapterFile, configOf, tensor, TENSORS } from './build.mjs';

test('SplitMix64 from the state 1234567, as its authors print it', () => {
  const generator = splitMix64(1234567n);
  const first = Array.from({ length: 3 }, () => generator.next().value);
  assert.deepEqual(first, [6457827717110365317n, 3203168211198807973n, 9817491932198370423n]);
});

test('all positions of a small array, 256 ascending ones of a larger one', () => {
  assert.deepEqual(sketchPositions([2, 3]), [0, 1, 2, 3, 4, 5]);
  assert.equal(sketchPositions([16, 16]).at(-1), 255);
  // Computed with Python's integers from the text of SKT-1.
  const leftOut = new Set([5, 7, 16, 38, 42, 60, 92, 99, 118, 158, 197, 222, 230, 242, 244, 266]);
  assert.deepEqual(
    sketchPositions([17, 16]),
    Array.from({ length: 272 }, (_, i) => i).filter((i) => !leftOut.has(i)),
  );
  assert.deepEqual(sketchPositions([3, 5, 1000]).slice(0, 4), [155, 229, 379, 409]);
  assert.notDeepEqual(sketchPositions([768, 3072]), sketchPositions([3072, 768]));
});

test('a value may be off by one rounding to BF16', () => {
  const weight = (value) => ({ shape: [2], values: Float64Array.of(1, value) });
  const sketch = Float32Array.of(1, 2);
  assert.ok(isSketched(weight(2), sketch));
  assert.ok(isSketched(weight(2 + 2 ** -7), sketch));
  assert.ok(!isSketched(weight(2 + 2 ** -7 + 2 ** -22), sketch));
  assert.ok(isSketched(weight(2 + 2 ** -7 + 2 ** -24 + 2 ** -30), sketch), 'values are rounded to F32 first');
  assert.ok(!isSketched(weight(NaN), sketch));
  assert.ok(!isSketched({ shape: [3], values: Float64Array.of(1, 2, 3) }, sketch));
});

const BACKBONE = { model_type: 'bert', hidden_size: 2, num_layers: { encoder: 1 }, norm_style: 'post' };
const ADAPTER = readAdapter(
  sourceOfBytes(
    adapterFile(configOf({ backbone: BACKBONE, overrides: [{ name: 'n.bias', kind: 'bias' }] }), {
      ...TENSORS,
      'override.n.bias': tensor([2], [0, 0]),
      'sketch.encoder.0.ffn.weight': tensor([4], [1, 2, 3, 4], Float32Array),
    }),
  ),
);
const WEIGHTS = { 'encoder.0.ffn.weight': tensor([2, 2], [1, 2, 3, 4]), 'n.bias': tensor([2], [5, 6]) };
const WITHOUT_BACKBONE = readAdapter(sourceOfBytes(adapterFile()));

test('size and sites have to fit even if the file does not describe its backbone', () => {
  const codeWith = (facts) => {
    try {
      matchBackbone(WITHOUT_BACKBONE, { ...BACKBONE, ...facts }, { has: () => false });
      return 'accepted';
    } catch (error) {
      return error.code;
    }
  };
  assert.equal(codeWith({ model_type: 'other', norm_style: 'pre' }), 'accepted');
  assert.equal(codeWith({ hidden_size: 4 }), 'E401');
  assert.equal(codeWith({ num_layers: { decoder: 1 } }), 'E211');
});

const COMPARISONS = {
  'the same': ['accepted', {}, {}],
  'another type': ['E401', { model_type: 'roberta' }, {}],
  'more layers': ['E401', { num_layers: { encoder: 2 } }, {}],
  'a stack more': ['E401', { num_layers: { encoder: 1, decoder: 1 } }, {}],
  'norms before': ['E402', { norm_style: 'pre' }, {}],
  'other weights': ['E403', {}, { 'encoder.0.ffn.weight': tensor([2, 2], [1, 2, 3, 5]) }],
  'a longer bias': ['E404', {}, { 'n.bias': tensor([3], [0, 0, 0]) }],
};
for (const [name, [expected, facts, weights]] of Object.entries(COMPARISONS)) {
  test(`backbone: ${name}`, () => {
    const all = { ...WEIGHTS, ...weights };
    const view = { has: (key) => key in all, read: (key) => all[key], shape: (key) => all[key].shape };
    const compare = () => matchBackbone(ADAPTER, { ...BACKBONE, ...facts }, view);
    if (expected === 'accepted') compare();
    else assert.throws(compare, (error) => error instanceof CompacterError && error.code === expected);
  });
}
