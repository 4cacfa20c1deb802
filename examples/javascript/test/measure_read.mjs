/** Reads the file named on the command line and prints its code and what that took: `node measure_read.mjs FILE`. */

import { readAdapter } from '../src/reader.mjs';
import { withFile } from '../src/source.mjs';

const before = process.resourceUsage().maxRSS;
let code = 'accepted';
try {
  withFile(process.argv[2], readAdapter);
} catch (error) {
  code = error.code ?? String(error);
}
process.stdout.write(JSON.stringify({ code, kibibytes: process.resourceUsage().maxRSS - before }));
