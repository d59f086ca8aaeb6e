import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../internal/local/project.js';
import { parseRunEnv } from '../../internal/local/run-env.js';
import { etcd } from '../../internal/local/servers/etcd.js';
import { postgres } from '../../internal/local/servers/postgres.js';
import { isAlive, type ManagedProcess } from '../../internal/local/servers/process.js';
import { rabbitmq } from '../../internal/local/servers/rabbitmq.js';
import { redis } from '../../internal/local/servers/redis.js';
import { eventually } from '../support/wait.js';
import { missingProgram } from './missing.js';
import { clusterRoot } from './redis.js';

const MAIN = join(projectRoot, 'dist/cmd/kaimai/main.js');

describe('kaimai up --cluster', function () {
  this.timeout(600_000);
  let runFolder: string;
  let launcher: ChildProcess | undefined;
  let output = '';
  let env: NodeJS.ProcessEnv;

  before(async function () {
    for (const kind of [postgres, redis, rabbitmq, etcd]) {
      if (kind.find() === undefined) missingProgram(this, kind.title);
    }
    runFolder = clusterRoot('up');
    env = { ...process.env, KAIMAI_RUN_DIR: runFolder };
    launcher = spawn(process.execPath, [MAIN, 'up', '--cluster'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [launcher.stdout, launcher.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        output += chunk;
      });
    }
    await eventually(
      'Kaimai is running',
      () => {
        if (launcher?.exitCode !== null) throw new Error(output);
        return output.includes('Ctrl-C stops everything');
      },
      { timeoutMs: 200_000 },
    );
    Object.assign(env, parseRunEnv(readFileSync(join(runFolder, 'env'), 'utf8')));
  });
  after(async () => {
    if (launcher && launcher.exitCode === null) {
      launcher.kill('SIGTERM');
      await once(launcher, 'exit');
    }
    if (runFolder) rmSync(runFolder, { recursive: true, force: true });
  });

  const kaimai = async (...args: string[]) =>
    (await promisify(execFile)(process.execPath, [MAIN, ...args], { env })).stdout;

  it('runs the demo, also after the death of a Redis master, and the audit finds nothing', async () => {
    assert.match(await kaimai('demo', '--timeout', '120'), /52 COMPLETED/);
    const { engines } = JSON.parse(readFileSync(join(runFolder, 'up.json'), 'utf8')) as { engines: ManagedProcess[] };
    process.kill(engines.find(({ name }) => name === 'Redis node 1')!.pid, 'SIGKILL');
    await eventually('another sale is sold', () => kaimai('demo', '--timeout', '120'), { timeoutMs: 120_000 });
    assert.match(await kaimai('audit'), /all hold/);
  });

  it('stops everything that it started', async () => {
    const { engines } = JSON.parse(readFileSync(join(runFolder, 'up.json'), 'utf8')) as { engines: ManagedProcess[] };
    assert.ok(engines.length >= 12);
    launcher!.kill('SIGTERM');
    assert.deepEqual(await once(launcher!, 'exit'), [0, null], output);
    assert.deepEqual(
      engines.filter(isAlive).map(({ name }) => name),
      [],
    );
  });
});
