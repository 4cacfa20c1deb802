/** The tokens of JSON: strings, numbers, words and the space between them. */

import { JsonError, JsonFloat } from './json_values.mjs';

export const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ESCAPES = Object.freeze({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' });
/** @type {readonly [string, boolean | null][]} */
const WORDS = Object.freeze([
  ['true', true],
  ['false', false],
  ['null', null],
]);
const PIECES = 4096;
const NOT_JSON = Object.freeze(['NaN', 'Infinity', '-Infinity']);

/**
 * @typedef {object} Limits
 * @property {number} maxDepth levels of objects and lists, the outermost being the first; the parser recurses so deep
 * @property {boolean} [wellFormed] refuse strings with unpaired surrogates
 */

export class Scanner {
  /**
   * @param {string} text
   * @param {Limits} limits
   */
  constructor(text, limits) {
    this.text = text;
    this.limits = limits;
    this.position = 0;
  }

  /**
   * @param {JsonError['kind']} kind
   * @param {string} message
   * @returns {JsonError}
   */
  error(kind, message) {
    return new JsonError(kind, message, this.position);
  }

  skipSpace() {
    for (;;) {
      const unit = this.text.charCodeAt(this.position);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.position += 1;
    }
  }

  /**
   * Skips white space, and then the character if it comes next.
   *
   * @param {string} character
   * @returns {boolean} whether it came
   */
  take(character) {
    this.skipSpace();
    if (this.text[this.position] !== character) return false;
    this.position += 1;
    return true;
  }

  /** @param {string} character that has to come next */
  expect(character) {
    if (!this.take(character)) throw this.error('syntax', `${character} expected`);
  }

  /** Refuses what is left of the text, white space apart. */
  end() {
    this.skipSpace();
    if (this.position !== this.text.length) throw this.error('syntax', 'text behind the value');
  }

  /** @returns {boolean | null | number | JsonFloat} true, false, null, or a negative number */
  word() {
    for (const [word, value] of WORDS) {
      if (this.text.startsWith(word, this.position)) {
        this.position += word.length;
        return value;
      }
    }
    if (NOT_JSON.some((word) => this.text.startsWith(word, this.position)))
      throw this.error('limit', 'a number that is not finite');
    return this.number();
  }

  /** @returns {string} */
  string() {
    const parts = [];
    let pieces = []; // joined now and then: a string of escapes alone would have millions
    this.position += 1;
    for (let start = this.position; ;) {
      const unit = this.text.charCodeAt(this.position);
      if (unit === QUOTE || unit === BACKSLASH) {
        pieces.push(this.text.slice(start, this.position));
        this.position += 1;
        if (unit === QUOTE) break;
        pieces.push(this.escape());
        start = this.position;
        if (pieces.length > PIECES) {
          parts.push(pieces.join(''));
          pieces = [];
        }
      } else if (unit >= 0x20) {
        this.position += 1;
      } else {
        throw this.error('syntax', 'an unfinished string or a control character in it'); // also where unit is NaN, at the end
      }
    }
    const result = parts.join('') + pieces.join('');
    if (this.limits.wellFormed && !result.isWellFormed())
      throw this.error('surrogate', 'a string with an unpaired surrogate');
    return result;
  }

  /** @returns {string} the character that an escape stands for; the backslash is behind */
  escape() {
    const letter = this.text[this.position];
    this.position += 1;
    if (Object.hasOwn(ESCAPES, letter)) return ESCAPES[letter];
    const digits = this.text.slice(this.position, this.position + 4);
    if (letter !== 'u' || !/^[0-9a-fA-F]{4}$/.test(digits)) throw this.error('syntax', 'an unknown escape');
    this.position += 4;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  /** @returns {number | JsonFloat} */
  number() {
    const start = this.position;
    this.takeUnit('-');
    if (!this.takeUnit('0')) this.digits();
    const integerEnd = this.position;
    if (this.takeUnit('.')) this.digits();
    if (this.takeUnit('e') || this.takeUnit('E')) {
      if (!this.takeUnit('+')) this.takeUnit('-');
      this.digits();
    }
    const value = Number(this.text.slice(start, this.position));
    if (this.position === integerEnd) {
      if (!Number.isSafeInteger(value)) throw this.error('limit', 'an integer beyond 2^53 - 1');
      return value + 0; // -0, which is no integer of its own, becomes 0
    }
    if (!Number.isFinite(value)) throw this.error('limit', 'a number beyond binary64');
    return new JsonFloat(value);
  }

  /**
   * @param {string} character
   * @returns {boolean} whether it came next, without white space
   */
  takeUnit(character) {
    if (this.text[this.position] !== character) return false;
    this.position += 1;
    return true;
  }

  /** Skips one or more digits. */
  digits() {
    const start = this.position;
    while (this.text[this.position] >= '0' && this.text[this.position] <= '9') this.position += 1;
    if (this.position === start) throw this.error('syntax', 'a value expected');
  }
}
