/**
 * The keys of one JSON object, to find a second one of the same name. A file from a stranger may hold millions: they are kept as
 * positions in the text, 16 bytes each, and hashed with a secret multiplier, so that nobody can write keys that collide.
 */

import { randomInt } from 'node:crypto';

/** Up to so many keys are simply compared with each other. */
const FEW = 8;
/** Largest prime below 2^26: products of two smaller numbers are exact in a double. */
const PRIME = 67108859;
const MULTIPLIER = randomInt(2 ** 16, PRIME);
const EMPTY = -1;
const NO_TABLE = new Int32Array(0);

/**
 * A polynomial in the secret multiplier, modulo a prime. Two different keys of length L agree with probability L / 2^26; since all
 * keys together are no longer than the text, a new one meets on average less than one false friend for 2^26 characters of text.
 *
 * @param {string} key
 * @returns {number}
 */
function hashOf(key) {
  let hash = key.length % PRIME;
  for (let i = 0; i < key.length; i += 1) {
    hash = (hash * MULTIPLIER + key.charCodeAt(i)) % PRIME;
  }
  return hash;
}

export class KeySet {
  /** @param {(position: number) => string} keyAt gives a key again from its position in the text */
  constructor(keyAt) {
    this.keyAt = keyAt;
    this.size = 0;
    /** @type {{key: string, position: number}[] | null} */
    this.few = [];
    this.positions = NO_TABLE;
    this.hashes = NO_TABLE;
  }

  /**
   * @param {string} key
   * @param {number} position where it stands in the text
   * @returns {boolean} whether it is new
   */
  add(key, position) {
    if (this.few) {
      if (this.few.some((other) => other.key === key)) return false;
      this.few.push({ key, position });
      this.size += 1;
      if (this.size > FEW) this.spread();
      return true;
    }
    return this.insert(key, position, hashOf(key));
  }

  /** Moves the first few keys into a table. */
  spread() {
    const few = this.few;
    this.few = null;
    this.size = 0;
    this.allocate(8 * FEW);
    for (const { key, position } of few) this.insert(key, position, hashOf(key));
  }

  /** @param {number} capacity a power of two */
  allocate(capacity) {
    this.positions = new Int32Array(capacity).fill(EMPTY);
    this.hashes = new Int32Array(capacity);
  }

  /**
   * @param {string} key
   * @param {number} position
   * @param {number} hash
   * @returns {boolean}
   */
  insert(key, position, hash) {
    const mask = this.positions.length - 1;
    let slot = hash & mask;
    for (; this.positions[slot] !== EMPTY; slot = (slot + 1) & mask) {
      if (this.hashes[slot] === hash && this.keyAt(this.positions[slot]) === key) return false;
    }
    this.positions[slot] = position;
    this.hashes[slot] = hash;
    this.size += 1;
    if (2 * this.size > this.positions.length) this.grow();
    return true;
  }

  grow() {
    const { positions, hashes } = this;
    this.allocate(2 * positions.length);
    const mask = this.positions.length - 1;
    positions.forEach((position, old) => {
      if (position === EMPTY) return;
      let slot = hashes[old] & mask;
      while (this.positions[slot] !== EMPTY) slot = (slot + 1) & mask;
      this.positions[slot] = position;
      this.hashes[slot] = hashes[old];
    });
  }
}
