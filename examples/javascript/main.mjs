/** Answers the conformance runner: `compacter conformance run --command "node examples/javascript/main.mjs"`. */

import { OPERATIONS } from './src/operations.mjs';
import { serve } from './src/protocol.mjs';

const description = {
  implementation: { name: 'compacter-javascript', version: '1.0.0' },
  claims: { R: [], F: ['F32', 'F64'], P: ['F32', 'F64'] },
  accumulate: { F32: 'F64', F64: 'F64' },
};

await serve({ description, operations: OPERATIONS }, process.stdin, process.stdout);
