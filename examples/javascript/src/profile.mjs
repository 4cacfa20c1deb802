/** Step 6 of reading: the copy of the configuration that a directory for a hub has beside the file (FMT-35). */

import { isDeepStrictEqual } from 'node:util';

import { MAX_TEXT, parseConfig } from './config.mjs';
import { CompacterError } from './errors.mjs';

/**
 * Canonical texts are equal exactly if the checked values are: 1 and 1.0 are two numbers (but not as `scaling`), 0.0 and -0.0 too.
 *
 * @param {import('./config.mjs').Config} config of the adapter file
 * @param {import('./source.mjs').Source} copy the bytes of adapter_config.json
 * @throws {CompacterError} E206, or a code of the configuration
 */
export function checkProfile(config, copy) {
  if (!isDeepStrictEqual(config, parseConfig(readText(copy)))) {
    throw new CompacterError({
      code: 'E206',
      value: 'another configuration',
      expected: 'the configuration of the file in adapter_config.json',
      remedy: 'copy it from the file again',
    });
  }
}

/**
 * @param {import('./source.mjs').Source} copy
 * @returns {string} no more of it than is needed to see that it is too long
 */
function readText(copy) {
  const bytes = copy.read(0, Math.min(copy.size, MAX_TEXT + 1));
  if (copy.size > MAX_TEXT) return bytes.toString('latin1');
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CompacterError({
      code: 'E203',
      value: error.message,
      expected: 'adapter_config.json in UTF-8',
      remedy: 'copy it from the file again',
    });
  }
}
