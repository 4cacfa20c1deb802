/** erf and erfc against 25 digits, computed with mpmath, and against what makes them what they are. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { erf, erfc } from '../src/erf.mjs';

const DIGITS = [
  [1e-300, '1.128379167095512602172316e-300', '1.0'],
  [1e-10, '1.12837916709551261500173e-10', '0.9999999998871620832904487'],
  [0.1, '0.1124629160182848984047123', '0.8875370839817151015952877'],
  [0.25, '0.2763263901682369329850683', '0.7236736098317630670149317'],
  [0.5, '0.5204998778130465376827467', '0.4795001221869534623172533'],
  [0.75, '0.7111556336535151315989378', '0.2888443663464848684010622'],
  [0.9, '0.7969082124228321396646662', '0.2030917875771678603353338'],
  [0.984375, '0.8361128700503964839583314', '0.1638871299496035160416686'],
  [1.0, '0.8427007929497148693412206', '0.1572992070502851306587794'],
  [1.015625, '0.8490860348888875325692805', '0.1509139651111124674307195'],
  [1.25, '0.9229001282564582301365235', '0.07709987174354176986347652'],
  [1.5, '0.9661051464753107270669763', '0.03389485352468927293302374'],
  [1.75, '0.9866716712191824437722111', '0.0133283287808175562277889'],
  [2.0, '0.9953222650189527341620693', '0.004677734981047265837930744'],
  [2.5, '0.9995930479825550410604358', '0.0004069520174449589395642157'],
  [3.0, '0.9999779095030014145586272', '0.00002209049699858544137277613'],
  [4.0, '0.9999999845827420997199811', '1.541725790028001885215967e-8'],
  [5.0, '0.999999999998462540205572', '1.537459794428034850188343e-12'],
  [6.0, '0.9999999999999999784802633', '2.151973671249891311659335e-17'],
  [10.0, '1.0', '2.088487583762544757000786e-45'],
  [1.1, '0.8802050695740817296572595', '0.1197949304259182703427405'],
  [3.3, '0.9999969422902035618348012', '0.000003057709796438165198762668'],
  [5.123456789, '0.9999999999995696681769379', '4.303318230620967151927894e-13'],
  [9.87654321, '1.0', '2.459723872920463606645235e-44'],
  [26.0, '1.0', '5.663192408856142846475728e-296'],
];
const ROUNDOFF = 2 ** -53;

/**
 * @param {number} x
 * @returns {number} distance to the next double of larger size
 */
function unitOfLastPlace(x) {
  return 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) - 52, -1074);
}

for (const [x, erfDigits, erfcDigits] of DIGITS) {
  test(`erf(${x}) within two units of the last place`, () => {
    assert.ok(Math.abs(erf(x) - Number(erfDigits)) <= 2 * unitOfLastPlace(Number(erfDigits)), String(erf(x)));
    assert.equal(erf(-x), -erf(x));
  });
  test(`erfc(${x})`, () => {
    const allowed = x >= 1 ? 4 * unitOfLastPlace(Number(erfcDigits)) : 2 * ROUNDOFF;
    assert.ok(Math.abs(erfc(x) - Number(erfcDigits)) <= allowed, String(erfc(x)));
    assert.ok(Math.abs(erfc(-x) + Number(erfcDigits) - 2) <= 4 * ROUNDOFF);
  });
}

test('special values', () => {
  assert.deepEqual([erf(0), erf(Infinity), erf(-Infinity), erf(NaN)], [0, 1, -1, NaN]);
  assert.ok(Object.is(erf(-0), -0));
  assert.deepEqual([erfc(0), erfc(Infinity), erfc(-Infinity), erfc(NaN)], [1, 0, 2, NaN]);
  assert.equal(erfc(30), 0);
});

test('no jump where the two expansions meet', () => {
  const below = 1 - ROUNDOFF;
  assert.ok(erf(below) <= erf(1) + 2 * ROUNDOFF && erf(1) - erf(below) < 8 * ROUNDOFF);
});
