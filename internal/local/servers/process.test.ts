import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive, type SpawnedProcess, spawnProcess, startTime, stopProcess, until, untilReady } from './process.js';

describe('processes of the launcher', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-process-'));
  const logFile = join(folder, 'log');
  const never = new AbortController().signal;
  const spawned: SpawnedProcess[] = [];

  function shell(script: string, graceMs = 5_000): SpawnedProcess {
    const child = spawnProcess({
      name: 'shell',
      command: '/bin/sh',
      args: ['-c', script],
      env: { PATH: process.env.PATH ?? '' },
      cwd: folder,
      logFile,
      account: undefined,
      stopSignal: 'SIGTERM',
      graceMs,
    });
    spawned.push(child);
    return child;
  }

  after(async () => {
    await Promise.all(spawned.map(stopProcess));
    rmSync(folder, { recursive: true, force: true });
  });

  it('stops a process and its children by signal, and kills those that ignore it', async () => {
    const polite = shell('exec sleep 60');
    assert.ok(isAlive(polite));
    await stopProcess(polite);
    await until('the exit', () => polite.exit === 'ended by SIGTERM', { timeoutMs: 5_000 });

    const stubborn = shell("trap '' TERM; echo deaf; sleep 60; sleep 60", 200);
    await untilReady(stubborn, logFile, () => log().includes('deaf'), { timeoutMs: 5_000, signal: never });
    await stopProcess(stubborn);
    assert.equal(isAlive(stubborn), false);
  });

  it('does not touch a process that reuses the pid of one that ended', async () => {
    const other = shell('exec sleep 60');
    await stopProcess({ ...other, startedAt: 'an earlier boot' });
    assert.ok(isAlive(other));
  });

  it('has no start time for a process that has ended', async () => {
    const brief = shell('exit 3');
    await until('the exit', () => brief.exit === 'exited with code 3', { timeoutMs: 5_000 });
    assert.equal(startTime(brief.pid), undefined);
  });

  it('reports a failed start with the end of its log', async () => {
    const failing = shell('echo no space left >&2; exit 7');
    await assert.rejects(
      untilReady(failing, logFile, () => false, { timeoutMs: 5_000, signal: never }),
      /shell exited with code 7(.|\n)*no space left/,
    );
    const slow = shell('exec sleep 60');
    await assert.rejects(
      untilReady(slow, logFile, () => false, { timeoutMs: 50, signal: never }),
      /did not get ready: not within 0.05 s/,
    );
    const missing = spawnProcess({ ...shellOptions(), args: [], command: join(folder, 'no-such-program') });
    await assert.rejects(
      untilReady(missing, logFile, () => false, { timeoutMs: 5_000, signal: never }),
      /could not start .*no-such-program/,
    );
  });

  it('stops waiting when the signal is aborted', async () => {
    const waiting = shell('exec sleep 60');
    const controller = new AbortController();
    const wait = untilReady(waiting, logFile, () => false, { timeoutMs: 60_000, signal: controller.signal });
    controller.abort(new Error('enough'));
    await assert.rejects(wait, /enough/);
  });

  function shellOptions() {
    return {
      name: 'missing',
      env: {},
      cwd: folder,
      logFile,
      account: undefined,
      stopSignal: 'SIGTERM',
      graceMs: 100,
    } as const;
  }

  function log(): string {
    return readFileSync(logFile, 'utf8');
  }
});
