/** The conformance protocol: one JSON object a line on standard input and output (CNF-14 to CNF-18). */

import { CompacterError } from './errors.mjs';
import { parseJson } from './json.mjs';

const PROTOCOL = 1;
const MESSAGE_DEPTH = 1000;

/**
 * @typedef {object} Request a command `run`
 * @property {string} op
 * @property {'F32' | 'F64'} [dtype]
 * @property {Record<string, any>} args
 * @property {string} out name of the output file
 *
 * @typedef {object} Implementation
 * @property {object} description the answer to `start`: implementation, claims, accumulate
 * @property {Record<string, (request: Request, scratch: string) => object>} operations each gives the content of `ok`
 */

/**
 * Answers requests until `stop` or the end of the input.
 *
 * @param {Implementation} implementation
 * @param {AsyncIterable<Buffer>} input
 * @param {NodeJS.WritableStream} output
 * @returns {Promise<void>}
 */
export async function serve(implementation, input, output) {
  let scratch = '';
  for await (const line of linesOf(input)) {
    if (line.trim() === '') continue;
    const request = /** @type {Record<string, any>} */ (parseJson(line, { maxDepth: MESSAGE_DEPTH }));
    if (request.cmd === 'start') scratch = request.scratch;
    output.write(`${JSON.stringify({ seq: request.seq, ...answer(implementation, request, scratch) })}\n`);
    if (request.cmd === 'stop') return;
  }
}

/**
 * Lines end with a line feed only: readline would also break them at U+2028, which JSON strings may hold.
 *
 * @param {AsyncIterable<Buffer>} input
 * @yields {string} one line without its end
 */
async function* linesOf(input) {
  /** @type {Buffer[]} */
  let pieces = [];
  for await (const chunk of input) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      pieces.push(chunk.subarray(start, end));
      yield Buffer.concat(pieces).toString('utf8');
      pieces = [];
      start = end + 1;
    }
    pieces.push(chunk.subarray(start));
  }
}

/**
 * @param {Implementation} implementation
 * @param {any} request
 * @param {string} scratch folder of the files
 * @returns {object} one of ok, rejected, skipped, error
 */
function answer(implementation, request, scratch) {
  switch (request.cmd) {
    case 'start':
      return request.protocol === PROTOCOL
        ? { ok: implementation.description }
        : { error: { message: `protocol ${request.protocol} is unknown; this program speaks ${PROTOCOL}` } };
    case 'run':
      return runCase(implementation, request, scratch);
    case 'stop':
      return { ok: {} };
    default:
      return { error: { message: `unknown command ${request.cmd}` } };
  }
}

/**
 * @param {Implementation} implementation
 * @param {Request} request
 * @param {string} scratch
 * @returns {object}
 */
function runCase(implementation, request, scratch) {
  const operation = Object.hasOwn(implementation.operations, request.op) ? implementation.operations[request.op] : null;
  if (!operation) return { skipped: { reason: `the operation ${request.op} is not offered` } };
  try {
    return { ok: operation(request, scratch) };
  } catch (error) {
    if (error instanceof CompacterError) {
      process.stderr.write(`${error.message}\n`);
      return { rejected: { code: error.code } };
    }
    return { error: { message: `${error.name}: ${error.message}` } };
  }
}
