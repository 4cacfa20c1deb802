/** Reads an adapter file, or refuses it with the code of the first rule that it breaks. */

import { checkVersion, parseConfig } from './config.mjs';
import { readContainer } from './container.mjs';
import { refuse } from './header.mjs';
import { projectionTensors, scalingTensor } from './layout.mjs';
import { checkTensorTable } from './tensor_table.mjs';
import { checkFinite, readTensor } from './tensors.mjs';

/**
 * @typedef {import('./source.mjs').Source} Source
 *
 * @typedef {object} Adapter a checked file; its tensors are read when they are asked for
 * @property {import('./config.mjs').Config} config with defaults filled in
 * @property {Map<string, import('./header.mjs').Entry>} entries
 * @property {Source} source
 */

/**
 * @param {Source} source has to stay readable while the adapter is used
 * @returns {Adapter}
 * @throws {CompacterError}
 */
export function readAdapter(source) {
  const { entries, metadata } = readContainer(source);
  checkMetadata(metadata);
  const config = parseConfig(metadata.config);
  if (config.spec_version !== metadata.version)
    throw refuse('E204', metadata.version, `${config.spec_version}, like the configuration`);
  checkTensorTable(config, entries);
  for (const [name, entry] of entries) checkFinite(source, name, entry);
  const adapter = { config, entries, source };
  checkAliases(adapter);
  return adapter;
}

/** @param {import('./header.mjs').Metadata} metadata */
function checkMetadata({ version, config, foreign }) {
  if (version === undefined) throw refuse('E201', version, 'compacter.spec_version in __metadata__');
  if (config === undefined) throw refuse('E201', config, 'compacter.config in __metadata__');
  checkVersion(version);
  if (foreign !== undefined) throw refuse('E205', foreign, 'compacter.spec_version and compacter.config only');
}

/** @param {Adapter} adapter whose `override.X` and `head.X` have to be equal */
function checkAliases({ entries, source }) {
  for (const [name, entry] of entries) {
    const alias = name.replace(/^override\./, 'head.');
    if (alias === name || !entries.has(alias)) continue;
    const one = readTensor(source, entry);
    const other = readTensor(source, entries.get(alias));
    const equal = one.shape.join() === other.shape.join() && one.values.every((value, i) => value === other.values[i]);
    if (!equal) throw refuse('E307', name, `the values of ${alias}`);
  }
}

/**
 * @param {Adapter} adapter
 * @param {string} name
 * @returns {import('./projection.mjs').Tensor}
 */
export function tensorOf({ entries, source }, name) {
  return readTensor(source, entries.get(name));
}

/**
 * One site, ready to compute.
 *
 * @param {Adapter} adapter
 * @param {string} id
 * @returns {import('./adapter.mjs').Site}
 */
export function siteOf(adapter, id) {
  const { config } = adapter;
  const site = config.sites.find((candidate) => candidate.id === id);
  if (!site) throw new RangeError(`the adapter has no site ${id}`);
  const side = (name) =>
    Object.fromEntries(projectionTensors(config, site, name).map(([short, full]) => [short, tensorOf(adapter, full)]));
  const trained = scalingTensor(config, id);
  return {
    id,
    kind: config.projection.kind,
    nonLinearity: config.non_linearity,
    hiddenSize: config.hidden_size,
    bottleneckSize: site.bottleneck_size,
    scaling: trained ? tensorOf(adapter, trained[0]) : /** @type {number} */ (config.scaling),
    attach: site.attach ?? config.attach,
    down: side('down'),
    up: side('up'),
  };
}
