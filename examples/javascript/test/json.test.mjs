/** The strict JSON parser: what it takes, what it refuses and why. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Parser, parseJson } from '../src/json.mjs';
import { JsonFloat } from '../src/json_values.mjs';

const LIMITS = { maxDepth: 16 };

/**
 * @param {string} text
 * @param {import('../src/json_scanner.mjs').Limits} [limits]
 * @returns {string} why it is refused, or 'accepted'
 */
function verdict(text, limits = LIMITS) {
  try {
    parseJson(text, limits);
    return 'accepted';
  } catch (error) {
    return error.kind ?? String(error);
  }
}

test('values of every type', () => {
  const value = parseJson(' {"a": [1, -2, true, false, null], "b": {"c": "d"}, "e": []}\n', LIMITS);
  assert.equal(JSON.stringify(value), '{"a":[1,-2,true,false,null],"b":{"c":"d"},"e":[]}');
});

test('an integer is a number without fraction and exponent', () => {
  assert.equal(parseJson('384', LIMITS), 384);
  assert.deepEqual(
    ['384.0', '3.84e2', '384E0'].map((text) => parseJson(text, LIMITS)),
    Array(3).fill(new JsonFloat(384)),
  );
});

test('strings with escapes', () => {
  assert.equal(parseJson('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00é"', LIMITS), '"\\/\b\f\n\r\té😀é');
});

test('keys that are names of properties elsewhere', () => {
  const value = parseJson('{"__proto__": 1, "toString": 2, "constructor": 3}', LIMITS);
  assert.deepEqual(Object.entries(value), [
    ['__proto__', 1],
    ['toString', 2],
    ['constructor', 3],
  ]);
});

for (const text of [
  '',
  ' ',
  '{',
  '[',
  '[1',
  '[1,]',
  '{"a":1,}',
  '{"a"}',
  '{a:1}',
  "{'a':1}",
  '{"a":}',
  '01',
  '-',
  '1.',
  '.5',
  '1e',
  '+1',
  '0x1',
  'nan',
  'True',
  'tru',
  '"',
  '"\\x"',
  '"\\u12g4"',
  '"\n"',
  '1 2',
  '{} {}',
  '[1 2]',
  '\u00a0 1',
  '\ufeff1',
  '// 1\n1',
  '-NaN',
]) {
  test(`no JSON: ${JSON.stringify(text)}`, () => assert.equal(verdict(text), 'syntax'));
}

for (const text of [
  'NaN',
  '[Infinity]',
  '-Infinity',
  '1e999',
  '-1.5e400',
  '9007199254740992',
  '-9007199254740992',
  '1'.repeat(400),
]) {
  test(`beyond a limit: ${text.slice(0, 20)}`, () => assert.equal(verdict(text), 'limit'));
}

test('the largest integers, and floating-point numbers of any digits', () => {
  assert.equal(verdict('[9007199254740991, -9007199254740991, -0, 1e308, 1e-400, 9007199254740993.0]'), 'accepted');
});

test('sixteen levels, not seventeen', () => {
  assert.equal(verdict('['.repeat(16) + ']'.repeat(16)), 'accepted');
  assert.equal(verdict('['.repeat(17) + ']'.repeat(17)), 'limit');
  assert.equal(verdict('{"a":'.repeat(200000)), 'limit');
});

test('a key twice, however it is written and however many there are', () => {
  assert.equal(verdict('{"a": 1, "\\u0061": 2}'), 'duplicate');
  assert.equal(verdict('{"a": {"a": 1}, "b": {"a": 1}}'), 'accepted');
  const keys = Array.from({ length: 5000 }, (_, i) => `"key${i}":${i}`);
  assert.equal(verdict(`{${keys}}`), 'accepted');
  for (const again of [0, 7, 8, 4999]) assert.equal(verdict(`{${keys},"key${again}":0}`), 'duplicate');
});

test('unpaired surrogates are refused where this is asked for', () => {
  assert.equal(verdict('"\\ud800"'), 'accepted');
  assert.equal(verdict('"\\ud800"', { maxDepth: 16, wellFormed: true }), 'surrogate');
  assert.equal(verdict('"\\ud83d\\ude00"', { maxDepth: 16, wellFormed: true }), 'accepted');
});

test('a value can be kept in part', () => {
  const parser = new Parser('{"a": [1, 2, [3]], "b": {"c": {"d": 4}}}', LIMITS);
  assert.equal(JSON.stringify(parser.value(1, 2)), '{"a":[1,2,null],"b":{}}');
  assert.equal(new Parser('[[], {}]', LIMITS).value(1, 0), undefined);
});
