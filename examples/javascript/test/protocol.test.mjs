/** The program behind a pipe. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { readContainer } from '../src/container.mjs';
import { withFile } from '../src/source.mjs';
import { readTensor, writeTensors } from '../src/tensors.mjs';
import { adapterFile, configOf, tensor } from './build.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'compacter-'));
after(() => rmSync(scratch, { recursive: true }));

/**
 * @param {object[]} messages
 * @returns {any[]} the answers
 */
function exchange(messages) {
  const lines = messages.map((message, seq) => JSON.stringify({ seq, ...message })).join('\n');
  const output = execFileSync(process.execPath, [join(import.meta.dirname, '..', 'main.mjs')], {
    input: `${lines}\n`,
    stdio: 'pipe',
  });
  return output
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const START = { cmd: 'start', protocol: 1, spec: '1.0', scratch };
const STOP = { cmd: 'stop' };

test('start, an answer of each kind, stop', () => {
  writeFileSync(join(scratch, 'good'), adapterFile());
  writeFileSync(join(scratch, 'bad'), 'PK\x03\x04 and more');
  const run = (op, args) => ({ cmd: 'run', case: 'c', op, args, out: 'out' });
  const answers = exchange([
    START,
    run('read', { adapter: 'good' }),
    run('read', { adapter: 'bad' }),
    run('read', { adapter: 'none' }),
    run('gradient', {}),
    run('count', { config: configOf({ method: 'a\u2028b' }) }),
    run('count', { config: configOf({ hidden_size: 0 }) }),
    STOP,
  ]);
  assert.deepEqual(
    answers.map(({ seq }) => seq),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );
  assert.deepEqual(answers[0].ok.claims, { R: [], F: ['F32', 'F64'], P: ['F32', 'F64'] });
  assert.equal(answers[1].ok.tensors['site.encoder.0.ffn.down.b'].sha256.length, 64);
  assert.deepEqual(answers[2].rejected, { code: 'E112' });
  assert.match(answers[3].error.message, /ENOENT/);
  assert.ok(answers[4].skipped.reason);
  assert.deepEqual(answers[5].ok, { parameters: 7 });
  assert.deepEqual(answers[6].rejected, { code: 'E208' });
  assert.deepEqual(answers[7].ok, {});
});

test('forward writes what is asked for', () => {
  writeFileSync(join(scratch, 'adapter'), adapterFile(configOf({ non_linearity: 'relu', scaling: 2 })));
  writeFileSync(join(scratch, 'inputs'), writeTensors({ x: tensor([1, 2], [1, 1]), skip: tensor([1, 2], [1, 1]) }));
  const args = { adapter: 'adapter', inputs: 'inputs', site: 'encoder.0.ffn', outputs: ['y'] };
  exchange([START, { cmd: 'run', case: 'c', op: 'forward', dtype: 'F64', args, out: 'forward.out' }, STOP]);
  withFile(join(scratch, 'forward.out'), (source) => {
    const { entries } = readContainer(source);
    assert.deepEqual([...entries.keys()], ['y']);
    assert.deepEqual([...readTensor(source, entries.get('y')).values], [14, -3]);
  });
});
