/** JSON values that JavaScript has no type for, and the error of a refused text. */

/** A number that was written with a fraction or an exponent. */
export class JsonFloat {
  /** @param {number} value */
  constructor(value) {
    this.value = value;
  }

  /** @returns {number} what `JSON.stringify` writes */
  toJSON() {
    return this.value;
  }
}

/** A JSON object. It inherits nothing, so `__proto__` and `toString` are keys like any other. */
export function Record() {}
Record.prototype = Object.create(null);

/**
 * @param {unknown} value
 * @returns {value is {[key: string]: any}} whether it is a JSON object
 */
export function isRecord(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof JsonFloat);
}

/** Why a text was refused. */
export class JsonError extends Error {
  /**
   * @param {'syntax' | 'limit' | 'duplicate' | 'surrogate'} kind limit: depth, NaN, Infinity, or a number out of range
   * @param {string} message
   * @param {number} position in UTF-16 units
   */
  constructor(kind, message, position) {
    super(`${message} at position ${position}`);
    this.name = 'JsonError';
    this.kind = kind;
  }
}
