/** The operations of the conformance classes R, F and P, each from its request to the content of `ok`. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { add, delta } from './adapter.mjs';
import { checkConfig } from './config.mjs';
import { readContainer } from './container.mjs';
import { countParameters } from './layout.mjs';
import { matchBackbone } from './match.mjs';
import { affineNorm, sublayerResult } from './placement.mjs';
import { checkProfile } from './profile.mjs';
import { readAdapter, siteOf } from './reader.mjs';
import { withFile } from './source.mjs';
import { digest, readTensor, writeTensors } from './tensors.mjs';

/** @typedef {(request: import('./protocol.mjs').Request, scratch: string) => object} Operation */

/** @type {Operation} */
function read({ args }, scratch) {
  return withFile(join(scratch, args.adapter), (source) => {
    const { config, entries } = readAdapter(source);
    if (args.profile !== undefined) withFile(join(scratch, args.profile), (copy) => checkProfile(config, copy));
    const tensors = {};
    for (const [name, entry] of entries)
      tensors[name] = { dtype: entry.dtype, shape: entry.shape, sha256: digest(source, entry) };
    return { config, tensors };
  });
}

/** @type {Operation} */
function count({ args }) {
  return { parameters: countParameters(checkConfig(args.config)) };
}

/** @type {Operation} */
function match({ args }, scratch) {
  return withFile(join(scratch, args.adapter), (source) => {
    const adapter = readAdapter(source);
    return withFile(join(scratch, args.weights), (weights) => {
      const { entries } = readContainer(weights, { minDimension: 0 });
      matchBackbone(adapter, args.backbone, {
        has: (name) => entries.has(name),
        read: (name) => readTensor(weights, entries.get(name)),
        shape: (name) => entries.get(name).shape,
      });
      return {};
    });
  });
}

/** @type {Operation} */
function forward({ args, out }, scratch) {
  const site = loadSite(scratch, args);
  const inputs = loadTensors(join(scratch, args.inputs));
  const change = delta(site, inputs.x);
  const results = {};
  if (args.outputs.includes('delta')) results.delta = change;
  if (args.outputs.includes('y')) results.y = add(inputs.skip, change);
  writeFileSync(join(scratch, out), writeTensors(results));
  return {};
}

/** @type {Operation} */
function sublayer({ args, out }, scratch) {
  const site = loadSite(scratch, args);
  const { r, h, gain, offset } = loadTensors(join(scratch, args.inputs));
  writeFileSync(join(scratch, out), writeTensors({ result: sublayerResult(site, r, h, affineNorm(gain, offset)) }));
  return {};
}

/**
 * @param {string} scratch
 * @param {Record<string, any>} args
 * @returns {import('./adapter.mjs').Site}
 */
function loadSite(scratch, args) {
  return withFile(join(scratch, args.adapter), (source) => siteOf(readAdapter(source), args.site));
}

/**
 * @param {string} path
 * @returns {Record<string, import('./projection.mjs').Tensor>}
 */
function loadTensors(path) {
  return withFile(path, (source) => {
    const { entries } = readContainer(source, { minDimension: 0 });
    return Object.fromEntries([...entries].map(([name, entry]) => [name, readTensor(source, entry)]));
  });
}

export const OPERATIONS = Object.freeze({ read, count, match, forward, sublayer });
