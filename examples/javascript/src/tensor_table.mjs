/** Step 4 of reading: the tensors of the header against the configuration, before any of their bytes is touched. */

import { CompacterError } from './errors.mjs';
import { adapterTensors, elementCount } from './layout.mjs';
import { SKETCH_SIZE } from './sketch.mjs';

/**
 * @typedef {import('./config.mjs').Config} Config
 * @typedef {Map<string, import('./header.mjs').Entry>} Entries
 */

export const MAX_ELEMENTS = 2 ** 28;
const RULE = /\.phm_rule(?:_left|_right)?$/;
const SKETCH = 'sketch.';
/** @type {readonly [string, string[]][]} forms of one tensor that exclude each other */
const FORMS = Object.freeze([
  ['W', ['W_left', 'W_right']],
  ['phm_rule', ['phm_rule_left', 'phm_rule_right']],
]);

/**
 * @param {string} code
 * @param {unknown} value
 * @param {string} expected
 * @returns {CompacterError}
 */
function refuse(code, value, expected) {
  return new CompacterError({ code, value, expected, remedy: 'make tensors and configuration agree' });
}

/**
 * @param {Config} config
 * @param {Entries} entries
 * @param {number} [maxElements]
 * @throws {CompacterError} E110, E301 to E305, E308, E309, E404
 */
export function checkTensorTable(config, entries, maxElements = MAX_ELEMENTS) {
  checkTotal(entries, maxElements);
  checkForms(entries);
  const expected = adapterTensors(config);
  for (const [name, shape] of Object.entries(config.head?.shapes ?? {})) expected.set(`head.${name}`, shape);
  const overrides = new Map(config.overrides.map(({ name, kind }) => [`override.${name}`, kind]));
  checkNames(entries, [...expected.keys(), ...overrides.keys()]);
  checkShapes(entries, expected, overrides);
  checkSketches(config, entries);
  checkOneType(entries);
}

/**
 * @param {Entries} entries
 * @param {number} maxElements
 */
function checkTotal(entries, maxElements) {
  let total = 0;
  for (const { shape } of entries.values()) total += elementCount(shape);
  if (total > maxElements) throw refuse('E309', total, `at most ${maxElements} elements`);
}

/** @param {Entries} entries */
function checkForms(entries) {
  for (const name of entries.keys()) {
    if (!/^(?:shared|site)\./.test(name)) continue;
    for (const [whole, factors] of FORMS) {
      if (!name.endsWith(`.${whole}`)) continue;
      const prefix = name.slice(0, -whole.length);
      const factor = factors.find((short) => entries.has(prefix + short));
      if (factor) throw refuse('E308', prefix + factor, `no factor beside ${name}`);
    }
  }
}

/**
 * @param {Entries} entries
 * @param {string[]} expected
 */
function checkNames(entries, expected) {
  for (const name of expected) {
    if (!entries.has(name)) {
      throw refuse(
        /^(?:shared|site)\./.test(name) && RULE.test(name) ? 'E302' : 'E301',
        undefined,
        `the tensor ${name}`,
      );
    }
  }
  const known = new Set(expected);
  for (const name of entries.keys()) {
    if (!known.has(name) && !name.startsWith(SKETCH))
      throw refuse('E303', name, 'no tensor that the configuration does not ask for');
  }
}

/**
 * @param {Entries} entries
 * @param {Map<string, number[]>} expected name to shape
 * @param {Map<string, string>} overrides name to kind
 */
function checkShapes(entries, expected, overrides) {
  for (const [name, shape] of expected) checkShape(entries, name, shape);
  for (const [name, kind] of overrides) {
    const { shape } = entries.get(name);
    if (kind !== 'head' && shape.length !== 1) throw refuse('E404', `[${shape}]`, `a vector for ${name}`);
  }
}

/**
 * @param {Entries} entries
 * @param {string} name
 * @param {number[]} shape
 */
function checkShape(entries, name, shape) {
  const found = entries.get(name).shape;
  if (found.join() !== shape.join()) throw refuse('E304', `[${found}]`, `[${shape}] for ${name}`);
}

/**
 * @param {Config} config
 * @param {Entries} entries
 */
function checkSketches({ sites, head, hidden_size: d }, entries) {
  const present = [...entries.keys()].filter((name) => name.startsWith(SKETCH));
  if (present.length === 0) return;
  const owners = sites.map(({ id }) => id);
  if (head?.pooler !== undefined) owners.push('pooler');
  const weights = new Set(owners.map((owner) => `${SKETCH}${owner}.weight`));
  const biases = new Set(owners.map((owner) => `${SKETCH}${owner}.bias`));
  for (const name of weights) {
    if (!entries.has(name)) throw refuse('E301', undefined, `the tensor ${name}, since there are other sketches`);
  }
  for (const name of present) {
    if (!weights.has(name) && !biases.has(name)) throw refuse('E303', name, 'sketches of sites and pooler only');
    const { dtype, shape } = entries.get(name);
    if (dtype !== 'F32') throw refuse('E110', dtype, `F32 for ${name}`);
    if (biases.has(name)) checkShape(entries, name, [Math.min(SKETCH_SIZE, d)]);
    else if (shape.length !== 1 || shape[0] > SKETCH_SIZE)
      throw refuse('E304', `[${shape}]`, `a vector of at most ${SKETCH_SIZE} for ${name}`);
  }
}

/** @param {Entries} entries */
function checkOneType(entries) {
  const types = new Set();
  for (const [name, { dtype }] of entries) {
    if (!name.startsWith(SKETCH)) types.add(dtype);
  }
  if (types.size > 1) throw refuse('E305', [...types].join(' and '), 'one type for all tensors but the sketches');
}
