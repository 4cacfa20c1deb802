/** The one error with which a file or a configuration is refused. */

import { JsonFloat } from './json_values.mjs';

/** An input that breaks a rule of the specification. */
export class CompacterError extends Error {
  /**
   * @param {object} what
   * @param {string} what.code such as 'E304'
   * @param {unknown} what.value what was found; long values are cut in the message
   * @param {string} what.expected what the specification asks for
   * @param {string} what.remedy what to do about it
   */
  constructor({ code, value, expected, remedy }) {
    super(`${code}: found ${shorten(value)}, expected ${expected}; ${remedy}`);
    this.name = 'CompacterError';
    this.code = code;
    this.value = value;
    this.expected = expected;
    this.remedy = remedy;
  }
}

const LONGEST_VALUE = 120;

/**
 * What a message may quote of a file: short, and without characters that a terminal would obey.
 *
 * @param {unknown} value
 * @returns {string}
 */
function shorten(value) {
  if (typeof value === 'string') {
    const cut = value.length > LONGEST_VALUE ? `${value.slice(0, LONGEST_VALUE)}…` : value;
    return JSON.stringify(cut).replace(/\p{C}/gu, '?');
  }
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof JsonFloat) return String(value.value);
  if (value !== null && typeof value === 'object') return 'an object';
  return String(value);
}
