/**
 * The four projections x [rows, in] -> x Wd [rows, out], in factored form: the Kronecker products of `phm` and `lphm` are never
 * built. Values are held in the array type of the tensors (Float32Array or Float64Array), sums are doubles.
 *
 * With m = in/n and q = out/n, row x as [n, m] and result z as [n, q]:
 *
 *     phm    u_i[b, p] = sum_a A_i[a, b] x[a, p],       z[b, j] = sum_i sum_p u_i[b, p] W_i[p, j]
 *     lphm   w_i[a, c] = sum_p x[a, p] s_i[p, c],       v_i[b, c] = sum_a A_i[a, b] w_i[a, c],
 *            z[b, j] = sum_i sum_c v_i[b, c] t_i[c, j]
 */

/**
 * @typedef {Float32Array | Float64Array} Values
 * @typedef {{shape: number[], values: Values}} Tensor
 * @typedef {object} ProjectionTensors tensors of one projection by their short names; those of its kind are there
 * @property {Tensor} [W] [in, out], or [n, in/n, out/n] of phm
 * @property {Tensor} [W_left] [in, r], or [n, in/n, r] of lphm
 * @property {Tensor} [W_right] [r, out], or [n, r, out/n] of lphm
 * @property {Tensor} [phm_rule] [n, n, n]
 * @property {Tensor} [phm_rule_left] [n, n, 1]
 * @property {Tensor} [phm_rule_right] [n, 1, n]
 */

/**
 * sums[j] += sum over p of x[xStart + p] * matrix[matrixStart + p * columns + j].
 *
 * @param {Values} x
 * @param {number} xStart
 * @param {number} rows length of the piece of x
 * @param {Values} matrix row-major [rows, columns]
 * @param {number} matrixStart
 * @param {number} columns
 * @param {Float64Array} sums
 * @param {number} sumsStart
 */
function addProduct(x, xStart, rows, matrix, matrixStart, columns, sums, sumsStart) {
  let index = matrixStart;
  for (let p = 0; p < rows; p += 1) {
    const factor = x[xStart + p];
    for (let j = 0; j < columns; j += 1) {
      sums[sumsStart + j] += factor * matrix[index];
      index += 1;
    }
  }
}

/**
 * A_i^T applied to the blocks of one row: mixed[b, p] = sum_a A_i[a, b] x[a, p].
 *
 * @param {Values} rule [n, n, n]
 * @param {number} i
 * @param {number} n
 * @param {Values} x the row, [n, width]
 * @param {number} xStart
 * @param {number} width
 * @returns {Float64Array} [n, width]
 */
function mixBlocks(rule, i, n, x, xStart, width) {
  const mixed = new Float64Array(n * width);
  for (let a = 0; a < n; a += 1) {
    for (let b = 0; b < n; b += 1) {
      const factor = rule[(i * n + a) * n + b];
      for (let p = 0; p < width; p += 1) {
        mixed[b * width + p] += factor * x[xStart + a * width + p];
      }
    }
  }
  return mixed;
}

/**
 * The rule A [n, n, n]: as stored, or A_i[a, b] = left_i[a] right_i[b] of a factorised one.
 *
 * @param {ProjectionTensors} tensors
 * @returns {Values}
 */
function ruleOf(tensors) {
  if (tensors.phm_rule) return tensors.phm_rule.values;
  const left = tensors.phm_rule_left;
  const right = tensors.phm_rule_right;
  const n = left.shape[0];
  const rule = new Float64Array(n * n * n);
  for (let i = 0; i < n; i += 1) {
    for (let a = 0; a < n; a += 1) {
      for (let b = 0; b < n; b += 1) {
        rule[(i * n + a) * n + b] = left.values[i * n + a] * right.values[i * n + b];
      }
    }
  }
  return rule;
}

/** @typedef {(x: Values, start: number, sums: Float64Array) => void} RowFunction adds one row's product to sums [out] */

/**
 * @param {ProjectionTensors} tensors
 * @returns {RowFunction}
 */
function denseRow({ W }) {
  const [rows, columns] = W.shape;
  return (x, start, sums) => addProduct(x, start, rows, W.values, 0, columns, sums, 0);
}

/**
 * @param {ProjectionTensors} tensors
 * @returns {RowFunction}
 */
function lowRankRow({ W_left: left, W_right: right }) {
  const [rows, rank] = left.shape;
  const columns = right.shape[1];
  return (x, start, sums) => {
    const inner = new Float64Array(rank);
    addProduct(x, start, rows, left.values, 0, rank, inner, 0);
    addProduct(held(inner, left), 0, rank, right.values, 0, columns, sums, 0);
  };
}

/**
 * @param {ProjectionTensors} tensors
 * @returns {RowFunction}
 */
function phmRow(tensors) {
  const { W } = tensors;
  const [n, m, q] = W.shape;
  const rule = ruleOf(tensors);
  return (x, start, sums) => {
    for (let i = 0; i < n; i += 1) {
      const mixed = held(mixBlocks(rule, i, n, x, start, m), W);
      for (let b = 0; b < n; b += 1) {
        addProduct(mixed, b * m, m, W.values, i * m * q, q, sums, b * q);
      }
    }
  };
}

/**
 * @param {ProjectionTensors} tensors
 * @returns {RowFunction}
 */
function lphmRow(tensors) {
  const { W_left: left, W_right: right } = tensors;
  const [n, m, rank] = left.shape;
  const q = right.shape[2];
  const rule = ruleOf(tensors);
  return (x, start, sums) => {
    for (let i = 0; i < n; i += 1) {
      const inner = new Float64Array(n * rank);
      for (let a = 0; a < n; a += 1) {
        addProduct(x, start + a * m, m, left.values, i * m * rank, rank, inner, a * rank);
      }
      const mixed = held(mixBlocks(rule, i, n, held(inner, left), 0, rank), left);
      for (let b = 0; b < n; b += 1) {
        addProduct(mixed, b * rank, rank, right.values, i * rank * q, q, sums, b * q);
      }
    }
  };
}

/**
 * Rounds finished sums to the type that values are held in.
 *
 * @param {Float64Array} sums
 * @param {Tensor} like a tensor of that type
 * @returns {Values}
 */
function held(sums, like) {
  return like.values instanceof Float32Array ? Float32Array.from(sums) : sums;
}

const ROW_FUNCTIONS = Object.freeze({ dense: denseRow, low_rank: lowRankRow, phm: phmRow, lphm: lphmRow });

/**
 * x W + b for every row, sums and bias in double precision; the caller rounds.
 *
 * @param {'dense' | 'low_rank' | 'phm' | 'lphm'} kind
 * @param {ProjectionTensors & {b?: Tensor}} tensors
 * @param {Values} x [rows, inSize]
 * @param {number} inSize
 * @param {number} outSize
 * @returns {Float64Array} [rows, outSize]
 */
export function project(kind, tensors, x, inSize, outSize) {
  const addRow = ROW_FUNCTIONS[kind](tensors);
  const rows = x.length / inSize;
  const result = new Float64Array(rows * outSize);
  for (let row = 0; row < rows; row += 1) {
    const sums = result.subarray(row * outSize, (row + 1) * outSize);
    addRow(x, row * inSize, sums);
    if (tensors.b) {
      tensors.b.values.forEach((bias, j) => {
        sums[j] += bias;
      });
    }
  }
  return result;
}
