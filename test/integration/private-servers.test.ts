import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pg from 'pg';
import { freePort, nextFreePort } from '../../internal/local/servers/ports.js';
import { isAlive, killProcessNow } from '../../internal/local/servers/process.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import { chooseSources, startServer, stopLeftovers } from '../../internal/local/servers/servers.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('private servers', () => {
  // What is not installed yet, is by these.
  useServers('postgres', 'redis');

  const root = mkdtempSync(join(tmpdir(), 'kaimai-private-'));
  const running: RunningServer[] = [];
  const never = new AbortController().signal;

  async function start(
    name: ServerName,
    port: (standard: number) => Promise<number> = freePort,
  ): Promise<RunningServer> {
    const server = await startServer(name, { type: 'programs' }, { root, port, signal: never, removeData: true });
    running.push(server);
    return server;
  }

  async function onRedis<T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
    await client.connect();
    try {
      return await work(client);
    } finally {
      client.disconnect();
    }
  }

  after(async () => {
    await Promise.all(running.map((server) => server.stop()));
    rmSync(root, { recursive: true, force: true });
  });

  it('keep their data over a kill -9 and a new start', async () => {
    const first = await start('redis');
    await onRedis(first.url, (client) => client.set('kept', 'yes'));
    for (const managed of first.processes) {
      killProcessNow(managed);
      await eventually('the end of Redis', () => !isAlive(managed));
    }
    const second = await start('redis');
    assert.equal(await onRedis(second.url, (client) => client.get('kept')), 'yes');
    const settings = await onRedis(second.url, (client) => client.config('GET', 'append*'));
    assert.deepEqual([settings].flat().includes('always'), true);
    await second.stop();
    assert.ok(second.processes.every((managed) => !isAlive(managed)));
  });

  it('are found again when their launcher died', async () => {
    const first = await start('postgres');
    const again = await start('postgres');
    assert.equal(again.url, first.url);
    assert.deepEqual(
      again.processes.map(({ pid }) => pid),
      first.processes.map(({ pid }) => pid),
    );
    await stopLeftovers(root);
    assert.ok(first.processes.every((managed) => !isAlive(managed)));

    const anew = await start('postgres');
    const client = new pg.Client({ connectionString: anew.url });
    await client.connect();
    const { rows } = await client.query('SELECT current_database() AS name');
    assert.deepEqual(rows, [{ name: 'product_db' }]);
    await client.end();
    await anew.stop();
  });

  it('ask for their password', async () => {
    const { url, stop } = await start('postgres');
    const stranger = new URL(url);
    stranger.password = 'guessed';
    const client = new pg.Client({ connectionString: stranger.href });
    await assert.rejects(client.connect(), /password authentication failed/);
    await stop();
  });

  it('do not stop a process that has got the pid of theirs', async () => {
    const state = {
      processes: [{ name: 'Redis', pid: process.pid, startedAt: 'before', stopSignal: 'SIGKILL', graceMs: 1 }],
    };
    writeFileSync(join(root, 'redis.json'), JSON.stringify(state));
    const server = await start('redis');
    await server.stop();
  });

  it('take another port when they lose one between looking and listening', async () => {
    const taken = await freePort();
    const stranger = createServer().listen(taken, '127.0.0.1');
    await eventually('the stranger listens', () => stranger.listening);
    let asked = 0;
    const server = await start('redis', async () => (asked++ === 0 ? taken : freePort()));
    assert.equal(asked, 2);
    assert.notEqual(new URL(server.url).port, String(taken));
    await server.stop();
    stranger.close();
  });

  it('say what is wrong when they do not start', async () => {
    const server = await start('redis');
    await server.stop();
    const configuration = join(root, 'redis', 'appendonlydir');
    rmSync(configuration, { recursive: true, force: true });
    writeFileSync(configuration, 'a file where a folder belongs');
    await assert.rejects(start('redis'), /Redis exited with code 1\. The end of its log \(.*redis\/log\):/);
    rmSync(configuration);
  });

  it('stop at once when their start is given up', async () => {
    const controller = new AbortController();
    const folder = mkdtempSync(join(tmpdir(), 'kaimai-private-'));
    chmodSync(folder, 0o711);
    const options = { root: folder, port: nextFreePort, signal: controller.signal, removeData: true };
    const starting = startServer('postgres', { type: 'programs' }, options);
    controller.abort(new Error('given up'));
    await assert.rejects(starting);
    assert.throws(() => readFileSync(join(folder, 'postgres.json')), /ENOENT/);
    rmSync(folder, { recursive: true, force: true });
  });
});

describe('where a server comes from', () => {
  const saved = { ...process.env };
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-docker-'));

  afterEach(() => {
    process.env = { ...saved };
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** A `docker` in front of the PATH that answers as told. */
  function docker(script: string): void {
    writeFileSync(join(folder, 'docker'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    process.env.PATH = `${folder}:${saved.PATH}`;
  }

  it('is a URL before anything else', async () => {
    docker('exit 0');
    process.env.KAIMAI_REDIS_URL = 'redis://example.test:1';
    delete process.env.KAIMAI_POSTGRES_URL;
    const sources = await chooseSources(['redis', 'postgres']);
    assert.deepEqual(sources.get('redis'), { type: 'given', url: 'redis://example.test:1' });
    assert.deepEqual(sources.get('postgres'), { type: 'compose' });
  });

  it('is a program on the machine when no engine answers', async () => {
    docker('exit 1');
    delete process.env.KAIMAI_REDIS_URL;
    assert.deepEqual((await chooseSources(['redis'])).get('redis'), { type: 'programs' });
  });

  it('refuses a URL on which nothing answers', async () => {
    const port = await freePort();
    const url = `redis://127.0.0.1:${port}`;
    const options = { root: folder, port: freePort, signal: new AbortController().signal, removeData: true };
    await assert.rejects(
      startServer('redis', { type: 'given', url }, options),
      new RegExp(`nothing answers on 127\\.0\\.0\\.1:${port}, which KAIMAI_REDIS_URL names`),
    );
  });

  it('is started and stopped by compose, and only what was asked for', async () => {
    const calls = join(folder, 'calls');
    docker(`echo "$* KAIMAI_REDIS_PORT=$KAIMAI_REDIS_PORT" >> ${calls}`);
    const options = { root: folder, port: async () => 6390, signal: new AbortController().signal, removeData: false };
    const server = await startServer('redis', { type: 'compose' }, options);
    assert.equal(server.url, 'redis://127.0.0.1:6390');
    await server.stop();
    const [up, stop, ...more] = readFileSync(calls, 'utf8').trim().split('\n');
    assert.match(
      up ?? '',
      /compose --file .*docker-compose\.yml --project-name kaimai-\w+ up --detach --wait --no-deps redis KAIMAI_REDIS_PORT=6390/,
    );
    assert.match(stop ?? '', /stop --timeout 30 redis/);
    assert.deepEqual(more, []);
  });

  it('falls back to programs when the container does not start', async () => {
    docker('exit 1');
    const root = mkdtempSync(join(tmpdir(), 'kaimai-fallback-'));
    chmodSync(root, 0o711);
    const options = { root, port: freePort, signal: new AbortController().signal, removeData: true };
    const server = await startServer('redis', { type: 'compose' }, options);
    assert.match(server.origin, /its container did not start/);
    await server.stop();
    rmSync(root, { recursive: true, force: true });
  });
});
