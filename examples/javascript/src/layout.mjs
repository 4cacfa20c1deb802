/** Which tensors a configuration asks for: their names and shapes (the table of specs/file-format.md). */

/**
 * @typedef {import('./config.mjs').Config} Config
 * @typedef {'down' | 'up'} Side
 */

/**
 * Shapes of the weights of one projection by their short names.
 *
 * @param {import('./config.mjs').Projection} projection
 * @param {number} inSize
 * @param {number} outSize
 * @returns {Record<string, number[]>}
 */
function weightShapes({ kind, phm_dim: n, phm_rank: r }, inSize, outSize) {
  switch (kind) {
    case 'dense':
      return { W: [inSize, outSize] };
    case 'low_rank':
      return { W_left: [inSize, r], W_right: [r, outSize] };
    case 'phm':
      return { W: [n, inSize / n, outSize / n] };
    case 'lphm':
      return { W_left: [n, inSize / n, r], W_right: [n, r, outSize / n] };
    default:
      throw new RangeError(`unknown kind ${kind}`);
  }
}

/**
 * Shapes of the rule's tensors by their short names; none for kinds without a rule.
 *
 * @param {import('./config.mjs').Projection} projection
 * @returns {Record<string, number[]>}
 */
function ruleShapes({ phm_dim: n, factorized_phm_rule: factorized }) {
  if (n === undefined) return {};
  return factorized ? { phm_rule_left: [n, n, 1], phm_rule_right: [n, 1, n] } : { phm_rule: [n, n, n] };
}

/**
 * @param {Record<string, number[]>} shapes by short names
 * @param {string} prefix
 * @returns {[string, string, number[]][]} short name, full name, shape
 */
function named(shapes, prefix) {
  return Object.entries(shapes).map(([short, shape]) => [short, `${prefix}.${short}`, shape]);
}

/**
 * The tensors that one projection of one site computes with, shared ones included.
 *
 * @param {Config} config
 * @param {{id: string, bottleneck_size: number}} site
 * @param {Side} side
 * @returns {[string, string, number[]][]} short name, name in the file, shape
 */
export function projectionTensors({ projection, hidden_size: d, ...config }, { id, bottleneck_size: k }, side) {
  const [inSize, outSize] = side === 'down' ? [d, k] : [k, d];
  const own = `site.${id}.${side}`;
  const hasBias = side === 'down' ? config.bias_down : config.bias_up;
  return [
    ...named(ruleShapes(projection), projection.shared_phm_rule ? 'shared' : own),
    ...named(weightShapes(projection, inSize, outSize), projection.shared_W ? `shared.${side}` : own),
    ...(hasBias ? named({ b: [outSize] }, own) : []),
  ];
}

/**
 * The trained scaling of a site: its name and shape.
 *
 * @param {Config} config
 * @param {string} id
 * @returns {[string, number[]] | null} null where the scaling is a number
 */
export function scalingTensor({ scaling, hidden_size: d }, id) {
  if (typeof scaling === 'number') return null;
  return [`site.${id}.scaling`, scaling === 'learned' ? [1] : [d]];
}

/**
 * Every `shared.*` and `site.*` tensor.
 *
 * @param {Config} config
 * @returns {Map<string, number[]>} name to shape
 */
export function adapterTensors(config) {
  const shapes = new Map();
  for (const site of config.sites) {
    for (const side of /** @type {Side[]} */ (['down', 'up'])) {
      for (const [, name, shape] of projectionTensors(config, site, side)) shapes.set(name, shape);
    }
    const scaling = scalingTensor(config, site.id);
    if (scaling) shapes.set(...scaling);
  }
  return shapes;
}

/**
 * Parameters of an adapter (FWD-23): the scalars of its tensors, shared ones once.
 *
 * @param {Config} config
 * @returns {number}
 */
export function countParameters(config) {
  let sum = 0;
  for (const shape of adapterTensors(config).values()) sum += elementCount(shape);
  return sum;
}

/**
 * @param {number[]} shape
 * @returns {number} product of the dimensions; exact below 2^53, and never below 2^53 if the exact product is not
 */
export function elementCount(shape) {
  return shape.reduce((product, size) => product * size, 1);
}
