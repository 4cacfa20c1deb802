/**
 * A strict JSON parser for bytes from strangers. `JSON.parse` accepts duplicate keys, any depth and any number, and does not tell
 * `384` from `384.0`; this one refuses the former and keeps the latter apart.
 *
 * Integers become numbers, all other numbers `JsonFloat`; objects become `Record`s, which have no prototype to confuse.
 */

import { QUOTE, Scanner } from './json_scanner.mjs';
import { Record } from './json_values.mjs';
import { KeySet } from './key_set.mjs';

/** @typedef {import('./json_scanner.mjs').Limits} Limits */

const KEPT_MEMBERS = 8;

/**
 * Parses one JSON value with white space around it.
 *
 * @param {string} text
 * @param {Limits} limits
 * @returns {unknown}
 * @throws {JsonError}
 */
export function parseJson(text, limits) {
  const parser = new Parser(text, limits);
  const value = parser.value(1);
  parser.end();
  return value;
}

/**
 * @param {number} levels that are kept
 * @returns {number} how many members of an object or list are kept
 */
function keptMembers(levels) {
  if (levels <= 0) return 0;
  return levels === Number.POSITIVE_INFINITY ? levels : KEPT_MEMBERS;
}

/** The parser itself, for texts that are too large to be turned into values as a whole. */
export class Parser extends Scanner {
  /**
   * The next value. All of it is checked, but an object or list is only kept as far as `levels` says: 0 gives undefined; a number
   * gives the first members, with one level less; infinity gives everything.
   *
   * @param {number} depth level of this value if it is an object or a list
   * @param {number} [levels]
   * @returns {unknown}
   */
  value(depth, levels = Number.POSITIVE_INFINITY) {
    this.skipSpace();
    const first = this.text[this.position];
    if (first === '{') return this.object(depth, levels);
    if (first === '[') return this.list(depth, levels);
    if (first === '"') return this.string();
    return first >= '0' && first <= '9' ? this.number() : this.word();
  }

  /**
   * @param {number} depth
   * @param {number} levels
   * @returns {object | undefined} a Record
   */
  object(depth, levels) {
    const result = levels > 0 ? new Record() : undefined;
    const limit = keptMembers(levels);
    let count = 0;
    for (const key of this.members(depth)) {
      const value = this.value(depth + 1, levels - 1);
      if (count < limit) result[key] = value;
      count += 1;
    }
    return result;
  }

  /**
   * The members of an object, which has to come next.
   *
   * @param {number} depth its level
   * @yields {string} a key; the caller then takes the member's value
   */
  *members(depth) {
    this.enter(depth, '{');
    const keys = new KeySet((position) => this.keyAt(position));
    if (this.take('}')) return;
    do {
      this.skipSpace();
      const start = this.position;
      if (this.text.charCodeAt(start) !== QUOTE) throw this.error('syntax', 'a key expected');
      const key = this.string();
      if (!keys.add(key, start))
        throw this.error('duplicate', `a key for the second time, ${JSON.stringify(key.slice(0, 80))}`);
      this.expect(':');
      yield key;
    } while (this.take(','));
    this.expect('}');
  }

  /**
   * @param {number} start position of a key that was read before
   * @returns {string}
   */
  keyAt(start) {
    const position = this.position;
    this.position = start;
    const key = this.string();
    this.position = position;
    return key;
  }

  /**
   * @param {number} depth
   * @param {number} levels
   * @returns {unknown[] | undefined}
   */
  list(depth, levels) {
    this.enter(depth, '[');
    const result = levels > 0 ? [] : undefined;
    const limit = keptMembers(levels);
    if (this.take(']')) return result;
    let count = 0;
    do {
      const value = this.value(depth + 1, levels - 1);
      if (count < limit) result.push(value);
      count += 1;
    } while (this.take(','));
    this.expect(']');
    return result;
  }

  /**
   * @param {number} depth
   * @param {'{' | '['} bracket that comes next
   */
  enter(depth, bracket) {
    if (depth > this.limits.maxDepth) throw this.error('limit', `more than ${this.limits.maxDepth} levels`);
    this.expect(bracket);
  }
}
