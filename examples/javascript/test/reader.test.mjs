/** Reading: what is read, and one broken rule at a time. The suite of specs/vectors has hundreds more. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseConfig } from '../src/config.mjs';
import { readContainer } from '../src/container.mjs';
import { CompacterError } from '../src/errors.mjs';
import { countParameters } from '../src/layout.mjs';
import { checkProfile } from '../src/profile.mjs';
import { readAdapter, siteOf, tensorOf } from '../src/reader.mjs';
import { sourceOfBytes } from '../src/source.mjs';
import { writeTensors } from '../src/tensors.mjs';
import { adapterFile, configOf, fileOf, tensor, TENSORS } from './build.mjs';

/**
 * @param {() => unknown} action
 * @returns {string}
 */
function codeOf(action) {
  try {
    action();
    return 'accepted';
  } catch (error) {
    if (!(error instanceof CompacterError)) throw error;
    return error.code;
  }
}

const read = (bytes) => readAdapter(sourceOfBytes(bytes));

test('an adapter: defaults, tensors, a site, its parameters', () => {
  const adapter = read(adapterFile());
  assert.equal(adapter.config.non_linearity, 'gelu_new');
  assert.equal(adapter.config.scaling, 1);
  assert.deepEqual(adapter.config.attach, { input: 'sublayer_output', skip: 'sublayer_output', post: true });
  assert.deepEqual(tensorOf(adapter, 'site.encoder.0.ffn.up.W'), TENSORS['site.encoder.0.ffn.up.W']);
  assert.deepEqual(siteOf(adapter, 'encoder.0.ffn').down, { W: tensor([2, 1], [1, 2]), b: tensor([1], [-1]) });
  assert.equal(countParameters(adapter.config), 7);
});

test('the count of one rule and two sites of rank 3 with both biases: n^3 + 2 (2 r (d + k) + d + k)', () => {
  const projection = { kind: 'lphm', phm_dim: 4, phm_rank: 3, shared_phm_rule: true };
  const sites = ['ffn', 'self_attn'].map((sublayer) => ({ id: `encoder.0.${sublayer}`, bottleneck_size: 4 }));
  const config = parseConfig(JSON.stringify(configOf({ hidden_size: 8, projection, sites })));
  assert.equal(countParameters(config), 64 + 2 * (6 * 12 + 12));
});

const ENTRY = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };
const EIGHT = new Uint8Array(8);
const CONTAINERS = {
  'empty file': ['E101', Buffer.alloc(0)],
  'zip archive': ['E112', Buffer.from('PK\x03\x04 and more')],
  pickle: ['E112', Buffer.from([0x80, 4, 0x95, 0, 0, 0, 0, 0, 0, 0])],
  'header of 0x0280 bytes, which begins like a pickle': [
    'accepted',
    fileOf(JSON.stringify({ a: ENTRY }).padEnd(0x280), EIGHT),
  ],
  'header beyond the file': ['E101', fileOf({ a: ENTRY }, EIGHT).subarray(0, 20)],
  'data beyond the file': ['E101', fileOf({ a: ENTRY }, EIGHT.subarray(1))],
  'bytes left': ['E105', fileOf({ a: ENTRY }, new Uint8Array(9))],
  'invalid UTF-8': ['E103', fileOf('{"a": "?"}').fill(0xff, 15, 16)],
  'byte order mark': ['E103', fileOf('\ufeff{}')],
  'number in the metadata': ['E103', fileOf({ __metadata__: { a: 1 } })],
  'key twice in an entry': ['E104', fileOf('{"a":{"dtype":"F32","dtype":"F32"}}')],
  gap: ['E105', fileOf({ a: { ...ENTRY, data_offsets: [8, 16] } }, new Uint8Array(16))],
  overlap: ['E105', fileOf({ a: ENTRY, b: { ...ENTRY, data_offsets: [4, 12] } }, new Uint8Array(12))],
  'negative offset': ['E105', fileOf({ a: { ...ENTRY, data_offsets: [-8, 0] } }, EIGHT)],
  'other size': ['E106', fileOf({ a: { ...ENTRY, shape: [3] } }, EIGHT)],
  'product of 124 bits': ['E106', fileOf({ a: { ...ENTRY, shape: Array(4).fill(2 ** 31 - 1) } }, EIGHT)],
  'dimension 0': ['E107', fileOf({ a: { ...ENTRY, shape: [0], data_offsets: [0, 0] } })],
  'dimension 2.0': ['E107', fileOf('{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', EIGHT)],
  'five dimensions': ['E107', fileOf({ a: { ...ENTRY, shape: [2, 1, 1, 1, 1] } }, EIGHT)],
  'long name': ['E108', fileOf({ ['a'.repeat(513)]: ENTRY }, EIGHT)],
  'name with a space': ['E109', fileOf({ 'a b': ENTRY }, EIGHT)],
  'name with two dots': ['E109', fileOf({ 'a..b': ENTRY }, EIGHT)],
  integers: ['E110', fileOf({ a: { ...ENTRY, dtype: 'I32' } }, EIGHT)],
  'a key more': ['E111', fileOf({ a: { ...ENTRY, more: 1 } }, EIGHT)],
  'a key less': ['E111', fileOf({ a: { dtype: 'F32', shape: [2] } }, EIGHT)],
};
for (const [name, [code, bytes]] of Object.entries(CONTAINERS)) {
  test(`container: ${name}`, () =>
    assert.equal(
      codeOf(() => readContainer(sourceOfBytes(bytes))),
      code,
    ));
}

const PHM = { kind: 'phm', phm_dim: 2 };
const BACKBONE = { model_type: 'bert', hidden_size: 2, num_layers: { encoder: 1 }, norm_style: 'post' };
const HEAD = { task: 't', layers: ['c'], shapes: { 'c.weight': [3, 2] } };
const site = (changes) => ({ sites: [{ ...configOf().sites[0], ...changes }] });
const CONFIGURATIONS = {
  'all defaults': ['accepted', {}],
  'later minor version': ['accepted', { spec_version: '1.9' }],
  'other major version': ['E204', { spec_version: '2.0' }],
  'version with a leading zero': ['E204', { spec_version: '1.01' }],
  'no version': ['E204', { spec_version: undefined }],
  'no sites key': ['E203', { sites: undefined }],
  'no sites': ['E211', { sites: [] }],
  'a site twice': ['E211', { sites: [configOf().sites[0], configOf().sites[0]] }],
  'a layer with a leading zero': ['E211', site({ id: 'encoder.00.ffn' })],
  'unknown key': ['E205', { colour: 'red' }],
  'unknown key of a site': ['E205', site({ colour: 'red' })],
  'a null': ['E203', { head: null }],
  'a boolean as an integer': ['E203', { hidden_size: true }],
  'hidden_size 0': ['E208', { hidden_size: 0 }],
  'name with a space': ['E208', { name: 'a b' }],
  'unknown kind': ['E203', { projection: { kind: 'sparse' } }],
  'a rule without phm_dim': ['E203', { projection: { kind: 'phm' } }],
  'phm_rank of phm': ['E203', { projection: { ...PHM, phm_rank: 1 } }],
  'k not divided': ['E207', { projection: PHM }],
  'd not divided': ['E207', { projection: PHM, hidden_size: 3, ...site({ bottleneck_size: 2 }) }],
  'unknown activation': ['E209', { non_linearity: 'swish' }],
  'a number as activation': ['E209', { non_linearity: 3 }],
  'r added twice': ['E210', { attach: { skip: 'residual_sum' } }],
  'r never added': ['E210', site({ attach: { post: false } })],
  'scaling in words': ['E203', { scaling: 'auto' }],
  'extension that need not be understood': ['accepted', { extensions: { x: { must_understand: false, a: [1.5] } } }],
  'extension that must be understood': ['E205', { extensions: { x: { must_understand: true } } }],
  'layer beyond the backbone': ['E211', { backbone: BACKBONE, ...site({ id: 'encoder.1.ffn' }) }],
  'other hidden size of the backbone': ['E401', { backbone: { ...BACKBONE, hidden_size: 3 } }],
  'an override twice': ['E203', { overrides: Array(2).fill({ name: 'n.weight', kind: 'norm' }) }],
  'override of another kind': ['E405', { overrides: [{ name: 'n.weight', kind: 'weight' }] }],
  'a bias by another name': ['E405', { overrides: [{ name: 'n.weight', kind: 'bias' }] }],
  'a norm that is not listed': [
    'E404',
    { backbone: { ...BACKBONE, norms: ['m'] }, overrides: [{ name: 'n.weight', kind: 'norm' }] },
  ],
  head: ['accepted', { head: { ...HEAD, labels: ['x', 'y', 'z'] } }],
  'a label missing': ['E203', { head: { ...HEAD, labels: ['x', 'y'] } }],
  'a layer without shape': ['E203', { head: { ...HEAD, layers: ['c', 'd'] } }],
  'dimension 0 in the head': ['E208', { head: { ...HEAD, shapes: { 'c.weight': [0, 2] } } }],
};
for (const [name, [code, changes]] of Object.entries(CONFIGURATIONS)) {
  test(`configuration: ${name}`, () =>
    assert.equal(
      codeOf(() => parseConfig(JSON.stringify(configOf(changes)))),
      code,
    ));
}

const TEXT = JSON.stringify(configOf());
const TEXTS = {
  'no JSON': ['E203', TEXT.slice(1)],
  'a list': ['E203', '[]'],
  NaN: ['E202', TEXT.replace('"hidden_size":2', '"hidden_size":NaN')],
  'hidden_size 2.0': ['E203', TEXT.replace('"hidden_size":2', '"hidden_size":2.0')],
  'beyond a mebibyte': ['E202', TEXT + ' '.repeat(2 ** 20)],
  'key twice': ['E104', TEXT.replace('{', '{"name":"b",')],
  'half a character': ['E203', TEXT.replace('"test"', '"\\ud800"')],
};
for (const [name, [code, text]] of Object.entries(TEXTS)) {
  test(`text of the configuration: ${name}`, () =>
    assert.equal(
      codeOf(() => parseConfig(text)),
      code,
    ));
}

const [FIRST] = Object.keys(TENSORS);
const { [FIRST]: _, ...WITHOUT_FIRST } = TENSORS;
const LEARNED = configOf({
  overrides: [{ name: 'c.bias', kind: 'bias' }],
  head: { task: 't', layers: ['c'], shapes: { 'c.weight': [1, 1], 'c.bias': [1] } },
});
const head = (bias) => ({
  ...TENSORS,
  'override.c.bias': tensor([1], [1]),
  'head.c.weight': tensor([1, 1], [0]),
  'head.c.bias': tensor([1], [bias]),
});
const TABLES = {
  missing: ['E301', configOf(), WITHOUT_FIRST],
  'rule missing': [
    'E302',
    configOf({ projection: PHM, ...site({ bottleneck_size: 2 }) }),
    { 'site.encoder.0.ffn.down.W': tensor([2, 1, 1], [1, 1]) },
  ],
  'one more': ['E303', configOf(), { ...TENSORS, 'site.encoder.1.ffn.down.W': tensor([1], [1]) }],
  transposed: ['E304', configOf(), { ...TENSORS, [FIRST]: tensor([1, 2], [1, 2]) }],
  'two types': ['E305', configOf(), { ...TENSORS, [FIRST]: tensor([2, 1], [1, 2], Float32Array) }],
  infinity: ['E306', configOf(), { ...TENSORS, [FIRST]: tensor([2, 1], [1, Infinity]) }],
  'equal aliases': ['accepted', LEARNED, head(1)],
  'aliases that differ': ['E307', LEARNED, head(2)],
  'both forms': ['E308', configOf(), { ...TENSORS, 'site.encoder.0.ffn.down.W_left': tensor([1], [1]) }],
  'a sketch of one of two linears': [
    'E301',
    configOf(),
    { ...TENSORS, 'sketch.encoder.0.ffn.bias': tensor([2], [0, 0], Float32Array) },
  ],
  'a sketch in F64': ['E110', configOf(), { ...TENSORS, 'sketch.encoder.0.ffn.weight': tensor([4], [0, 0, 0, 0]) }],
};
for (const [name, [code, config, tensors]] of Object.entries(TABLES)) {
  test(`tensors: ${name}`, () =>
    assert.equal(
      codeOf(() => read(adapterFile(config, tensors))),
      code,
    ));
}

test('more elements than the budget are refused before a byte is read', () => {
  const shape = [1, 2 ** 29];
  const header = {
    __metadata__: { 'compacter.spec_version': '1.0', 'compacter.config': TEXT },
    [FIRST]: { dtype: 'F16', shape, data_offsets: [0, 2 ** 30] },
  };
  const bytes = fileOf(header);
  const source = {
    size: bytes.length + 2 ** 30,
    read: (position, length) => Buffer.from(bytes.subarray(position, position + length)),
  };
  assert.equal(
    codeOf(() => readAdapter(source)),
    'E309',
  );
});

test('what a profile has beside the file', () => {
  const config = parseConfig(TEXT);
  const verdict = (text) => codeOf(() => checkProfile(config, sourceOfBytes(Buffer.from(text))));
  assert.equal(verdict(JSON.stringify(configOf({ scaling: 1 }), null, 2)), 'accepted');
  assert.equal(verdict(JSON.stringify(configOf({ scaling: 2 }))), 'E206');
  const trained = (text) => JSON.stringify(configOf({ training: { x: '?' } })).replace('"?"', text);
  const pair = (one, other) =>
    codeOf(() => checkProfile(parseConfig(trained(one)), sourceOfBytes(Buffer.from(trained(other)))));
  assert.deepEqual([pair('1', '1'), pair('0', '-0'), pair('1e0', '1.0')], Array(3).fill('accepted'));
  assert.deepEqual([pair('1', '1.0'), pair('0.0', '-0.0'), pair('1', 'true'), pair('{}', '[]')], Array(4).fill('E206'));
  assert.equal(verdict(Buffer.from([0xff])), 'E203');
  assert.equal(verdict(`\ufeff${TEXT}`), 'E203');
  assert.equal(verdict(TEXT + ' '.repeat(2 ** 20)), 'E202');
  assert.deepEqual(
    ['é', ' é'].map((text) => verdict(text.padEnd(2 ** 20, 'é'))),
    ['E202', 'E202'],
    'also where the limit cuts a character',
  );
});

test('messages quote little and nothing that a terminal obeys', () => {
  const error = new CompacterError({
    code: 'E109',
    value: `\u001b[2J\u009b${'x'.repeat(1e6)}`,
    expected: '',
    remedy: '',
  });
  assert.ok(error.message.length < 200 && !/\p{C}/u.test(error.message));
});

test('tensors of every type are written and read again', () => {
  const tensors = { b: tensor([2], [0.1, -3], Float32Array), a: tensor([1, 2], [0.1, -3]), c: tensor([0, 2], []) };
  const { entries } = readContainer(sourceOfBytes(writeTensors(tensors)), { minDimension: 0 });
  assert.deepEqual(
    [...entries].map(([name, { dtype, shape }]) => [name, dtype, shape]),
    [
      ['a', 'F64', [1, 2]],
      ['c', 'F64', [0, 2]],
      ['b', 'F32', [2]],
    ],
  );
});
