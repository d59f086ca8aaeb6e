import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const FIXTURE = fileURLToPath(new URL('./testdata/slow-wiring.js', import.meta.url));

describe('A process that receives a signal while it builds its object graph', () => {
  let child: ChildProcess;
  let output: string;

  async function run(...args: string[]): Promise<void> {
    output = '';
    child = spawn(process.execPath, [FIXTURE, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdout?.setEncoding('utf8').on('data', (data: string) => {
      output += data;
    });
    await once(child.stdout!, 'data');
  }
  afterEach(() => child.kill('SIGKILL'));

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
    it(`starts nothing, closes what is open and exits with code 0 at ${signal}`, async () => {
      await run();
      child.kill(signal);
      await once(child.stdout!, 'data');
      child.stdin?.end();
      const [code] = await once(child, 'close');
      assert.equal(code, 0);
      assert.equal(output, 'wiring\nsignal\nclose\n');
    });

    it(`stops at ${signal} although its event loop was busy until the app ran`, async () => {
      await run('busy');
      child.kill(signal);
      child.stdin?.end();
      const [code] = await once(child, 'close');
      assert.equal(code, 0);
      assert.match(output, /\nclose\n$/);
    });
  }
});
