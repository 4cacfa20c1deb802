/** Step 7: an adapter against a backbone (SKT-7 to SKT-12). */

import { CompacterError } from './errors.mjs';
import { tensorOf } from './reader.mjs';
import { isSketched } from './sketch.mjs';

/**
 * @typedef {import('./reader.mjs').Adapter} Adapter
 * @typedef {{model_type: string, hidden_size: number, num_layers: Record<string, number>, norm_style: string}} Backbone
 *
 * @typedef {object} Weights the backbone's tensors
 * @property {(name: string) => boolean} has
 * @property {(name: string) => import('./projection.mjs').Tensor} read
 * @property {(name: string) => number[]} shape
 */

/**
 * @param {Adapter} adapter
 * @param {Backbone} backbone
 * @param {Weights} weights `<site>.weight` [in, out], `<site>.bias`, and parameters by their names in the backbone
 * @throws {CompacterError} E211, E401 to E405
 */
export function matchBackbone(adapter, backbone, weights) {
  checkArchitecture(adapter.config.backbone, backbone);
  checkSites(adapter.config, backbone);
  checkSketches(adapter, weights);
  checkOverrides(adapter, weights);
}

/**
 * @param {string} code
 * @param {unknown} value
 * @param {string} expected
 * @returns {CompacterError}
 */
function refuse(code, value, expected) {
  return new CompacterError({ code, value, expected, remedy: 'use the backbone that the adapter was trained on' });
}

/**
 * @param {import('./config.mjs').Config['backbone']} trained
 * @param {Backbone} backbone
 */
function checkArchitecture(trained, backbone) {
  if (!trained) return;
  const facts = ({ model_type: type, hidden_size: size, num_layers: { encoder = 0, decoder = 0 } }) =>
    JSON.stringify({ model_type: type, hidden_size: size, num_layers: { encoder, decoder } });
  if (facts(trained) !== facts(backbone)) throw refuse('E401', facts(backbone), facts(trained));
  if (trained.norm_style !== backbone.norm_style) throw refuse('E402', backbone.norm_style, trained.norm_style);
}

/**
 * What has to fit even where the file says nothing about its backbone (SKT-12).
 *
 * @param {import('./config.mjs').Config} config
 * @param {Backbone} backbone
 */
function checkSites({ hidden_size: hiddenSize, sites }, backbone) {
  if (backbone.hidden_size !== hiddenSize) throw refuse('E401', backbone.hidden_size, `hidden size ${hiddenSize}`);
  for (const { id } of sites) {
    const [stack, layer] = id.split('.');
    if (Number(layer) >= (backbone.num_layers[stack] ?? 0)) throw refuse('E211', id, 'a site in one of the layers');
  }
}

/**
 * @param {Adapter} adapter
 * @param {Weights} weights
 */
function checkSketches(adapter, weights) {
  for (const name of adapter.entries.keys()) {
    if (!name.startsWith('sketch.')) continue;
    const linear = name.slice('sketch.'.length);
    if (!weights.has(linear) || !isSketched(weights.read(linear), tensorOf(adapter, name).values)) {
      throw refuse('E403', linear, 'the tensor that was sketched');
    }
  }
}

/**
 * @param {Adapter} adapter
 * @param {Weights} weights
 */
function checkOverrides(adapter, weights) {
  for (const { name, kind } of adapter.config.overrides) {
    const { shape } = adapter.entries.get(`override.${name}`);
    if (!weights.has(name) || weights.shape(name).join() !== shape.join())
      throw refuse('E404', name, `a tensor [${shape}] of the backbone`);
    if (kind === 'head') throw refuse('E405', name, 'norms and biases only');
  }
}
