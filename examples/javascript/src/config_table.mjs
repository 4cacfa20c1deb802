/** The configuration's table (specs/file-format.md): keys, types, defaults and ranges. */

import {
  anyObject,
  boolean,
  integer,
  listOf,
  mapOf,
  matching,
  objectOf,
  oneOf,
  optional,
  refuse,
  required,
  scaling,
  string,
  withDefault,
} from './config_fields.mjs';
import { MAX_DIMENSION } from './header.mjs';
import { isRecord } from './json_values.mjs';

const SITE_ID = /^(?:encoder|decoder)\.(?:0|[1-9][0-9]{0,4})\.(?:self_attn|cross_attn|ffn)$/;
const siteId = matching(SITE_ID, 'E211');
const size = integer(1, 65536);

const INPUTS = ['sublayer_output', 'normed_sum', 'residual'];
const SKIPS = ['sublayer_output', 'residual_sum', 'normed_sum'];

const attachFields = objectOf({
  input: withDefault(oneOf(INPUTS, 'E210'), () => 'sublayer_output'),
  skip: withDefault(oneOf(SKIPS, 'E210'), () => 'sublayer_output'),
  post: withDefault(boolean, () => true),
});

/** @type {import('./config_fields.mjs').Check} */
function attach(value, path) {
  const result = attachFields(value, path);
  if (result.post !== (result.skip === 'sublayer_output')) {
    throw refuse('E210', path, `skip ${result.skip}, post ${result.post}`, 'post exactly with skip sublayer_output');
  }
  return result;
}

/** @type {import('./config_fields.mjs').Check} */
function shape(value, path) {
  const dimensions = listOf(integer(1, MAX_DIMENSION))(value, path);
  if (dimensions.length < 1 || dimensions.length > 4) throw refuse('E208', path, value, '1 to 4 dimensions');
  return dimensions;
}

/** @type {import('./config_fields.mjs').Check} keeps what the object holds (CFG-6) */
function extension(value, path) {
  if (!isRecord(value) || value.must_understand !== false)
    throw refuse('E205', path, value, 'an object with "must_understand": false');
  return value;
}

const projection = objectOf({
  kind: withDefault(oneOf(['dense', 'low_rank', 'phm', 'lphm'], 'E203'), () => 'lphm'),
  phm_dim: optional(integer(1, 256)),
  phm_rank: optional(integer(1, 1024)),
  shared_phm_rule: withDefault(boolean, () => false),
  factorized_phm_rule: withDefault(boolean, () => false),
  shared_W: withDefault(boolean, () => false),
});

const site = objectOf({ id: required(siteId), bottleneck_size: required(size), attach: optional(attach) });

const layers = optional(integer(1, 99999));

const backbone = objectOf({
  model_type: required(string),
  hidden_size: required(size),
  num_layers: required(objectOf({ encoder: layers, decoder: layers }, 'E203')),
  norm_style: required(oneOf(['post', 'pre'], 'E203')),
  id: optional(string),
  revision: optional(string),
  modules: withDefault(mapOf(objectOf({ linear: required(string), norm: optional(string) }), siteId), () => ({})),
  norms: withDefault(listOf(string), () => []),
});

const override = objectOf({ name: required(string), kind: required(oneOf(['norm', 'bias', 'head'], 'E405')) });

const head = objectOf({
  task: required(string),
  layers: required(listOf(string, 'E203')),
  shapes: required(mapOf(shape)),
  labels: withDefault(listOf(string), () => []),
  pooler: optional(string),
  pooling: optional(oneOf(['mean'], 'E203')),
});

/** @type {import('./config_fields.mjs').Check} the whole configuration, with defaults filled in */
export const configuration = objectOf({
  spec_version: required(string),
  method: required(string),
  name: required(matching(/^[A-Za-z0-9_-]{1,64}$/, 'E208')),
  hidden_size: required(size),
  projection: required(projection),
  non_linearity: withDefault(oneOf(['gelu_new', 'gelu', 'relu', 'silu', 'tanh', 'identity'], 'E209'), () => 'gelu_new'),
  bias_down: withDefault(boolean, () => true),
  bias_up: withDefault(boolean, () => true),
  scaling: withDefault(scaling, () => 1),
  attach: withDefault(attach, () => attach({}, 'attach')),
  sites: required(listOf(site, 'E211')),
  backbone: optional(backbone),
  overrides: withDefault(listOf(override), () => []),
  head: optional(head),
  training: withDefault(anyObject, () => ({})),
  extensions: withDefault(mapOf(extension), () => ({})),
});
