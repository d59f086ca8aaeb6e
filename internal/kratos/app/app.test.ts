import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const FIXTURE = fileURLToPath(new URL('./testdata/app-process.js', import.meta.url));

describe('App', () => {
  let child: ChildProcess;
  let lines: string[];
  let waiting: { readonly line: string; readonly resolve: () => void } | undefined;

  function run(mode: string): void {
    lines = [];
    child = spawn(process.execPath, [FIXTURE, mode], { stdio: ['ignore', 'pipe', 'inherit'] });
    let rest = '';
    child.stdout?.on('data', (data: Buffer) => {
      const parts = (rest + data.toString()).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        lines.push(line);
        if (waiting?.line === line) waiting.resolve();
      }
    });
  }

  function said(line: string): Promise<void> {
    return new Promise((resolve) => {
      waiting = { line, resolve };
      if (lines.includes(line)) resolve();
    });
  }

  async function ended(): Promise<number | NodeJS.Signals> {
    const [code, signal] =
      child.exitCode !== null || child.signalCode !== null
        ? [child.exitCode, child.signalCode]
        : await once(child, 'close');
    return (code ?? signal) as number | NodeJS.Signals;
  }

  afterEach(() => {
    child.kill('SIGKILL');
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
    it(`starts in order and stops in reverse at ${signal}`, async () => {
      run('');
      await said('serving');
      child.kill(signal);
      assert.equal(await ended(), 0);
      assert.deepEqual(lines, [
        'start a',
        'start b',
        'ready',
        'register',
        'serving',
        'not ready',
        'deregister',
        'drain a',
        'drain b',
        'stop b',
        'stop a',
        'close',
        'left',
      ]);
    });
  }

  it('deregisters before the drain delay and stops its servers after it', async () => {
    run('long-drain');
    await said('serving');
    child.kill('SIGTERM');
    // The drain delay is longer than this test may take.
    await said('deregister');
    // Later steps may be in the same chunk of its output.
    const until = lines.slice(0, lines.indexOf('deregister') + 1);
    assert.deepEqual(until.slice(-2), ['not ready', 'deregister']);
    child.kill('SIGTERM');
    assert.equal(await ended(), 130);
    assert.ok(!lines.includes('stop b'));
  });

  it('exits immediately at the second signal', async () => {
    run('impatient');
    await said('serving');
    child.kill('SIGTERM');
    await said('deregister');
    child.kill('SIGTERM');
    assert.equal(await ended(), 130);
    assert.ok(!lines.includes('close'));
  });

  it('stops the servers that had started if a later one cannot start', async () => {
    run('start-fails');
    assert.equal(await ended(), 1);
    assert.deepEqual(lines, [
      'start a',
      'start b',
      'fatal error: stopping: no port',
      'not ready',
      'deregister',
      'drain a',
      'drain b',
      'stop b',
      'stop a',
      'close',
      'stopped with code 1',
      'left',
    ]);
  });

  it('can be stopped while a server hangs at its start', async () => {
    run('start-hangs');
    await said('start b');
    child.kill('SIGTERM');
    assert.equal(await ended(), 0);
    assert.ok(!lines.includes('serving'));
    assert.ok(lines.includes('close'));
  });

  for (const [mode, message] of [
    ['fatal', 'lost my database'],
    ['rejection', 'unhandled'],
    ['exception', 'thrown'],
  ] as const) {
    it(`stops with exit code 1 after a fatal error: ${mode}`, async () => {
      run(mode);
      assert.equal(await ended(), 1);
      assert.ok(lines.includes(`fatal error: stopping: ${message}`), lines.join('\n'));
      assert.deepEqual(lines.slice(-5), ['stop b', 'stop a', 'close', 'stopped with code 1', 'left']);
    });
  }

  it('continues after a stop that fails, one that waits for its deadline, and one that never ends', async () => {
    for (const mode of ['stop-fails', 'slow', 'stuck']) {
      run(mode);
      await said('serving');
      child.kill('SIGTERM');
      assert.equal(await ended(), 0);
      assert.deepEqual(lines.slice(-3), ['stop a', 'close', 'left'], mode);
      assert.equal(lines.includes('step takes too long: abandoned'), mode === 'stuck');
    }
  });
});
