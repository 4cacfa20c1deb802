/** Projections, activations, adapter and placement against numbers that were computed by hand. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ACTIVATIONS } from '../src/activations.mjs';
import { add, delta } from '../src/adapter.mjs';
import { affineNorm, sublayerResult } from '../src/placement.mjs';
import { project } from '../src/projection.mjs';
import { tensor } from './build.mjs';

/*
 * n = 2, in = 4, out = 2. With A_0 = [[1, 2], [3, 4]], A_1 = [[0, 1], [-1, 0]], W_0 = (1, 2), W_1 = (3, -1) as columns, the weight
 * sum_i kron(A_i, W_i) has the rows
 *     a = 0, p = 0:  1*1 + 0*3,    2*1 + 1*3     =  1 5
 *     a = 0, p = 1:  1*2 - 0*1,    2*2 - 1*1     =  2 3
 *     a = 1, p = 0:  3*1 - 1*3,    4*1 + 0*3     =  0 4
 *     a = 1, p = 1:  3*2 + 1*1,    4*2 - 0*1     =  7 8
 * and x = (1, 0, -1, 2) gives (1 - 0 + 14, 5 - 4 + 16) = (15, 17).
 */
const RULE = tensor([2, 2, 2], [1, 2, 3, 4, 0, 1, -1, 0]);
const X = Float64Array.of(1, 0, -1, 2);
const PROJECTIONS = {
  dense: { W: tensor([4, 2], [1, 5, 2, 3, 0, 4, 7, 8]) },
  low_rank: { W_left: tensor([4, 2], [1, 5, 2, 3, 0, 4, 7, 8]), W_right: tensor([2, 2], [1, 0, 0, 1]) },
  phm: { phm_rule: RULE, W: tensor([2, 2, 1], [1, 2, 3, -1]) },
  lphm: { phm_rule: RULE, W_left: tensor([2, 2, 1], [0.5, 1, 3, -1]), W_right: tensor([2, 1, 1], [2, 1]) },
};
for (const [kind, tensors] of Object.entries(PROJECTIONS)) {
  test(`the ${kind} projection, without and with a bias, on one token and on two`, () => {
    assert.deepEqual([...project(kind, tensors, X, 4, 2)], [15, 17]);
    const biased = { ...tensors, b: tensor([2], [100, 200]) };
    assert.deepEqual([...project(kind, biased, Float64Array.of(...X, 0, 1, 0, 0), 4, 2)], [115, 217, 102, 203]);
  });
}

test('a factored rule is the product of its factors', () => {
  // left_0 = (1, 2), right_0 = (3, 4): A_0 = [[3, 4], [6, 8]]; left_1 = (0, 1), right_1 = (5, -1): A_1 = [[0, 0], [5, -1]].
  const factors = { phm_rule_left: tensor([2, 2, 1], [1, 2, 0, 1]), phm_rule_right: tensor([2, 1, 2], [3, 4, 5, -1]) };
  const whole = { phm_rule: tensor([2, 2, 2], [3, 4, 6, 8, 0, 0, 5, -1]) };
  for (const kind of ['phm', 'lphm']) {
    const { phm_rule: _, ...weights } = PROJECTIONS[kind];
    assert.deepEqual(
      project(kind, { ...weights, ...factors }, X, 4, 2),
      project(kind, { ...weights, ...whole }, X, 4, 2),
    );
  }
});

/** x = (1, 1) gives z = 1 + 2 - 1 = 2 and o = (6.5, -2); x = (-1, 0) gives z = -2, relu 0 and o = (0.5, 0). */
const SITE = {
  id: 'encoder.0.ffn',
  kind: 'dense',
  nonLinearity: 'relu',
  hiddenSize: 2,
  bottleneckSize: 1,
  scaling: 2,
  attach: { input: 'sublayer_output', skip: 'sublayer_output', post: true },
  down: { W: tensor([2, 1], [1, 2]), b: tensor([1], [-1]) },
  up: { W: tensor([1, 2], [3, -1]), b: tensor([2], [0.5, 0]) },
};

test('delta with each kind of scaling, and y', () => {
  const x = tensor([2, 2], [1, 1, -1, 0]);
  const change = delta(SITE, x);
  assert.deepEqual([...change.values], [13, -4, 1, 0]);
  assert.deepEqual([...add(tensor([2, 2], [1, 1, 1, 1]), change).values], [14, -3, 2, 1]);
  assert.deepEqual([...delta({ ...SITE, scaling: tensor([1], [-1]) }, x).values], [-6.5, 2, -0.5, -0]);
  assert.deepEqual([...delta({ ...SITE, scaling: tensor([2], [2, 3]) }, x).values], [13, -6, 1, 0]);
});

test('any leading axes, none and empty ones included', () => {
  assert.deepEqual(delta(SITE, tensor([2], [1, 1])), tensor([2], [13, -4]));
  assert.deepEqual(delta(SITE, tensor([2, 0, 2], [])), tensor([2, 0, 2], []));
  assert.deepEqual(delta(SITE, tensor([1, 1, 2], [1, 1])).shape, [1, 1, 2]);
  assert.throws(() => delta(SITE, tensor([2, 3], [1, 1, 1, 1, 1, 1])), RangeError);
});

test('F32 stays F32', () => {
  assert.ok(delta(SITE, tensor([2], [0.1, 0.2], Float32Array)).values instanceof Float32Array);
});

test('a NaN fills its token and no other', () => {
  for (const nonLinearity of Object.keys(ACTIVATIONS)) {
    const { values } = delta({ ...SITE, nonLinearity }, tensor([2, 2], [NaN, 1, 1, 1]));
    assert.deepEqual([...values].map(Number.isNaN), [true, true, false, false]);
  }
});

test('activations at 1 and -1, to 16 digits', () => {
  const values = Object.entries(ACTIVATIONS).flatMap(([, act]) => [act(1), act(-1)]);
  const expected = [
    [0.8411919906082768, -0.15880800939172324], // gelu_new
    [0.8413447460685429, -0.15865525393145705], // gelu: Phi(1), and -Phi(-1)
    [1, 0],
    [0.7310585786300049, -0.2689414213699951], // silu: 1/(1 + 1/e)
    [0.7615941559557649, -0.7615941559557649],
    [1, -1],
  ].flat();
  values.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) <= 4 * 2 ** -53, `${i}: ${value}`));
});

test('activations stay finite where their parts overflow', () => {
  const largest = Number.MAX_VALUE;
  for (const [name, act] of Object.entries(ACTIVATIONS)) {
    assert.equal(act(largest), name === 'tanh' ? 1 : largest, name);
    assert.ok([0, name === 'tanh' ? -1 : 0, name === 'identity' ? -largest : 0].includes(act(-largest)), name);
  }
});

/** delta(x) = 2 x, r = 3, h = 5, N(v) = 2 v + 1: r + h = 8 and N(r + h) = 17. */
const DOUBLING = {
  ...SITE,
  nonLinearity: 'identity',
  hiddenSize: 1,
  scaling: 1,
  down: { W: tensor([1, 1], [2]) },
  up: { W: tensor([1, 1], [1]) },
};
const RESULTS = {
  sublayer_output: { sublayer_output: 2 * (3 + 5 + 10) + 1, residual_sum: 8 + 10, normed_sum: 17 + 10 },
  normed_sum: { sublayer_output: 2 * (3 + 5 + 34) + 1, residual_sum: 8 + 34, normed_sum: 17 + 34 },
  residual: { sublayer_output: 2 * (3 + 5 + 6) + 1, residual_sum: 8 + 6, normed_sum: 17 + 6 },
};
for (const [input, row] of Object.entries(RESULTS)) {
  for (const [skip, expected] of Object.entries(row)) {
    test(`placement: ${input} to ${skip}`, () => {
      const site = { ...DOUBLING, attach: { input, skip, post: skip === 'sublayer_output' } };
      const norm = affineNorm(tensor([1], [2]), tensor([1], [1]));
      assert.deepEqual([...sublayerResult(site, tensor([1, 1], [3]), tensor([1, 1], [5]), norm).values], [expected]);
    });
  }
}
