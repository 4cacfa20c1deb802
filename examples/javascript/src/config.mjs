/** Step 3 of reading: the configuration, from its text to checked values with defaults filled in. */

import { configuration } from './config_table.mjs';
import { checkRelations } from './config_relations.mjs';
import { MAX_DEPTH } from './header.mjs';
import { CompacterError } from './errors.mjs';
import { parseJson } from './json.mjs';
import { isRecord, JsonError } from './json_values.mjs';

export const MAX_TEXT = 1024 * 1024;
const MAJOR = '1';
const VERSION = /^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$/;

/**
 * @typedef {{input: string, skip: string, post: boolean}} Attach
 *
 * @typedef {object} Projection
 * @property {'dense' | 'low_rank' | 'phm' | 'lphm'} kind
 * @property {number} [phm_dim] n
 * @property {number} [phm_rank] r
 * @property {boolean} shared_phm_rule
 * @property {boolean} factorized_phm_rule
 * @property {boolean} shared_W
 *
 * @typedef {object} Config keys as in the file
 * @property {string} spec_version
 * @property {string} method
 * @property {string} name
 * @property {number} hidden_size d
 * @property {Projection} projection
 * @property {string} non_linearity
 * @property {boolean} bias_down
 * @property {boolean} bias_up
 * @property {number | 'learned' | 'channel'} scaling
 * @property {Attach} attach
 * @property {{id: string, bottleneck_size: number, attach?: Attach}[]} sites
 * @property {{model_type: string, hidden_size: number, num_layers: Record<string, number>, norm_style: string, id?: string,
 *   revision?: string, modules: Record<string, {linear: string, norm?: string}>, norms: string[]}} [backbone]
 * @property {{name: string, kind: string}[]} overrides
 * @property {{task: string, layers: string[], shapes: Record<string, number[]>, labels: string[], pooler?: string,
 *   pooling?: string}} [head]
 * @property {object} training
 * @property {Record<string, object>} extensions
 */

/**
 * @param {string} code
 * @param {unknown} value
 * @param {string} expected
 * @returns {CompacterError}
 */
function refuse(code, value, expected) {
  return new CompacterError({ code, value, expected, remedy: 'correct the configuration' });
}

/**
 * Refuses a version that is none, or of another major version (VER-1 to VER-3).
 *
 * @param {unknown} version
 */
export function checkVersion(version) {
  const parts = typeof version === 'string' ? VERSION.exec(version) : null;
  if (!parts || parts[1] !== MAJOR) throw refuse('E204', version, `a version ${MAJOR}.x as spec_version`);
}

/**
 * @param {string} text
 * @returns {Config} with defaults filled in
 * @throws {CompacterError} E104, E202 to E211, E401, E404, E405
 */
export function parseConfig(text) {
  if (Buffer.byteLength(text) > MAX_TEXT)
    throw refuse('E202', Buffer.byteLength(text), `a configuration of at most ${MAX_TEXT} bytes`);
  if (!text.isWellFormed()) throw refuse('E203', 'an unpaired surrogate', 'a configuration of Unicode characters');
  try {
    return checkConfig(parseJson(text, { maxDepth: MAX_DEPTH, wellFormed: true }));
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const codes = { syntax: 'E203', surrogate: 'E203', limit: 'E202', duplicate: 'E104' };
    throw refuse(codes[error.kind], error.message, 'a configuration in JSON');
  }
}

/**
 * @param {unknown} value a configuration as `parseJson` gives it
 * @returns {Config} with defaults filled in
 * @throws {CompacterError} E203 to E211, E401, E404, E405
 */
export function checkConfig(value) {
  if (!isRecord(value)) throw refuse('E203', value, 'a configuration that is an object');
  checkVersion(value.spec_version);
  const config = configuration(value, '');
  checkRelations(config);
  return config;
}
