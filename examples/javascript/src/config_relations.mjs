/** What has to hold between the values of a configuration (CFG-8, CFG-10, CFG-12 to CFG-17). */

import { refuse } from './config_fields.mjs';

/**
 * @param {import('./config.mjs').Config} config of the table's types
 * @throws {CompacterError} E203, E207, E211, E401, E404, E405
 */
export function checkRelations(config) {
  checkProjection(config.projection);
  checkSites(config);
  if (config.backbone) checkBackbone(config, config.backbone);
  checkOverrides(config);
  if (config.head) checkHead(config.head);
}

/** @param {import('./config.mjs').Projection} projection */
function checkProjection(projection) {
  const { kind } = projection;
  const hasRule = kind === 'phm' || kind === 'lphm';
  const hasRank = kind === 'low_rank' || kind === 'lphm';
  if ((projection.phm_dim !== undefined) !== hasRule)
    throw refuse('E203', 'projection.phm_dim', projection.phm_dim, `what kind ${kind} asks for`);
  if ((projection.phm_rank !== undefined) !== hasRank)
    throw refuse('E203', 'projection.phm_rank', projection.phm_rank, `what kind ${kind} asks for`);
  for (const key of ['shared_phm_rule', 'factorized_phm_rule']) {
    if (projection[key] && !hasRule) throw refuse('E203', `projection.${key}`, true, `false with kind ${kind}`);
  }
}

/** @param {import('./config.mjs').Config} config */
function checkSites({ hidden_size: hiddenSize, projection, sites }) {
  const n = projection.phm_dim ?? 1;
  if (hiddenSize % n !== 0) throw refuse('E207', 'hidden_size', hiddenSize, `a multiple of ${n}`);
  const seen = new Set();
  for (const { id, bottleneck_size: k } of sites) {
    if (seen.has(id)) throw refuse('E211', 'sites', id, 'each id once');
    seen.add(id);
    if (k % n !== 0) throw refuse('E207', `bottleneck_size of ${id}`, k, `a multiple of ${n}`);
    if (projection.shared_W && k !== sites[0].bottleneck_size)
      throw refuse('E203', `bottleneck_size of ${id}`, k, 'one size for all sites, with shared_W,');
  }
}

/**
 * @param {import('./config.mjs').Config} config
 * @param {NonNullable<import('./config.mjs').Config['backbone']>} backbone
 */
function checkBackbone({ hidden_size: hiddenSize, sites }, backbone) {
  if (backbone.hidden_size !== hiddenSize)
    throw refuse('E401', 'backbone.hidden_size', backbone.hidden_size, `${hiddenSize}, like hidden_size,`);
  for (const { id } of sites) {
    const [stack, layer] = id.split('.');
    const count = backbone.num_layers[stack] ?? 0;
    if (Number(layer) >= count) throw refuse('E211', 'sites', id, `a layer below ${count}`);
  }
}

/** @param {import('./config.mjs').Config} config */
function checkOverrides({ overrides, backbone }) {
  const seen = new Set();
  const norms = new Set(backbone?.norms ?? []);
  for (const { name, kind } of overrides) {
    if (seen.has(name)) throw refuse('E203', 'overrides', name, 'each name once');
    seen.add(name);
    if (kind === 'bias' && name !== 'bias' && !name.endsWith('.bias'))
      throw refuse('E405', 'overrides', name, 'the name of a bias');
    const module = name.slice(0, Math.max(name.lastIndexOf('.'), 0));
    if (kind === 'norm' && norms.size > 0 && !norms.has(module))
      throw refuse('E404', 'overrides', name, 'a tensor of one of backbone.norms');
  }
}

/** @param {NonNullable<import('./config.mjs').Config['head']>} head */
function checkHead({ layers, shapes, labels, pooler, pooling }) {
  const allowed = new Set(layers.flatMap((layer) => [`${layer}.weight`, `${layer}.bias`]));
  for (const name of Object.keys(shapes)) {
    if (!allowed.has(name)) throw refuse('E203', 'head.shapes', name, 'weight or bias of one of head.layers');
  }
  for (const layer of layers) {
    if (!(`${layer}.weight` in shapes)) throw refuse('E203', 'head.shapes', undefined, `${layer}.weight`);
  }
  if (pooler !== undefined && pooling !== undefined) throw refuse('E203', 'head.pooler', pooler, `nothing beside ${pooling}`);
  const classes = shapes[`${layers.at(-1)}.weight`][0];
  if (labels.length > 0 && labels.length !== classes) throw refuse('E203', 'head.labels', labels, `${classes} labels`);
}
