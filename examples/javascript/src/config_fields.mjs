/** Checks of single values of a configuration, out of which its table is built (CFG-3 to CFG-9). */

import { CompacterError } from './errors.mjs';
import { isRecord, JsonFloat } from './json_values.mjs';

/**
 * @typedef {(value: unknown, path: string) => any} Check gives the value, with defaults filled in, or refuses it
 * @typedef {object} Field
 * @property {Check} check
 * @property {boolean} [required]
 * @property {() => unknown} [fallback] gives the default; without it an absent key stays absent
 */

/**
 * @param {string} code
 * @param {string} path such as projection.kind
 * @param {unknown} value
 * @param {string} expected
 * @returns {CompacterError}
 */
export function refuse(code, path, value, expected) {
  return new CompacterError({ code, value, expected: `${expected} as ${path}`, remedy: 'correct the configuration' });
}

/**
 * @param {Check} check
 * @returns {Field}
 */
export const required = (check) => ({ check, required: true });

/**
 * @param {Check} check
 * @returns {Field}
 */
export const optional = (check) => ({ check });

/**
 * @param {Check} check
 * @param {() => unknown} fallback
 * @returns {Field}
 */
export const withDefault = (check, fallback) => ({ check, fallback });

/** @type {Check} */
export function string(value, path) {
  if (typeof value !== 'string') throw refuse('E203', path, value, 'a string');
  return value;
}

/** @type {Check} */
export function boolean(value, path) {
  if (typeof value !== 'boolean') throw refuse('E203', path, value, 'true or false');
  return value;
}

/** @type {Check} a JSON object with anything in it */
export function anyObject(value, path) {
  if (!isRecord(value)) throw refuse('E203', path, value, 'an object');
  return value;
}

/**
 * @param {number} lowest
 * @param {number} highest
 * @returns {Check} an integer, written as one
 */
export function integer(lowest, highest) {
  return (value, path) => {
    if (typeof value !== 'number') throw refuse('E203', path, value, 'an integer');
    if (value < lowest || value > highest) throw refuse('E208', path, value, `${lowest} to ${highest}`);
    return value;
  };
}

/**
 * @param {string[]} words
 * @param {string} code of a value that is none of them
 * @returns {Check}
 */
export function oneOf(words, code) {
  return (value, path) => {
    if (!words.includes(/** @type {string} */ (value))) throw refuse(code, path, value, `one of ${words.join(', ')}`);
    return value;
  };
}

/**
 * @param {RegExp} pattern anchored
 * @param {string} code
 * @returns {Check} a string of this form
 */
export function matching(pattern, code) {
  return (value, path) => {
    if (!pattern.test(string(value, path))) throw refuse(code, path, value, `a string of the form ${pattern.source}`);
    return value;
  };
}

/** @type {Check} a number, given as a plain one, or one of the two words */
export function scaling(value, path) {
  if (value instanceof JsonFloat) return value.value;
  if (typeof value === 'number' || value === 'learned' || value === 'channel') return value;
  throw refuse('E203', path, value, 'a number, "learned" or "channel"');
}

/**
 * @param {Check} check of each item
 * @param {string} [codeIfEmpty] given, an empty list is refused with it
 * @returns {Check}
 */
export function listOf(check, codeIfEmpty) {
  return (value, path) => {
    if (!Array.isArray(value)) throw refuse('E203', path, value, 'a list');
    if (codeIfEmpty && value.length === 0) throw refuse(codeIfEmpty, path, value, 'a list that is not empty');
    return value.map((item, index) => check(item, `${path}[${index}]`));
  };
}

/**
 * @param {Check} check of each value
 * @param {Check} [checkKey]
 * @returns {Check} an object with free keys
 */
export function mapOf(check, checkKey = string) {
  return (value, path) => {
    const result = Object.create(null);
    for (const [key, item] of Object.entries(anyObject(value, path))) {
      result[checkKey(key, path)] = check(item, `${path}.${key}`);
    }
    return result;
  };
}

/**
 * @param {Record<string, Field>} fields
 * @param {string} [codeOfUnknown]
 * @returns {Check} a closed object
 */
export function objectOf(fields, codeOfUnknown = 'E205') {
  return (value, path) => {
    const prefix = path === '' ? '' : `${path}.`;
    const given = anyObject(value, path || 'the configuration');
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(fields, key))
        throw refuse(codeOfUnknown, path, key, `one of ${Object.keys(fields).join(', ')}`);
    }
    const result = {};
    for (const [key, field] of Object.entries(fields)) {
      if (Object.hasOwn(given, key)) result[key] = field.check(given[key], prefix + key);
      else if (field.required) throw refuse('E203', prefix + key, undefined, 'a value');
      else if (field.fallback) result[key] = field.fallback();
    }
    return result;
  };
}
