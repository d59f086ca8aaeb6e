import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pg from 'pg';
import { freePort, nextFreePort } from '../../internal/local/servers/ports.js';
import { isAlive, killProcessNow } from '../../internal/local/servers/process.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import {
  chooseSources,
  type StartOptions,
  startServer,
  startServers,
  stopLeftovers,
  supervisedServer,
} from '../../internal/local/servers/servers.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('A private server', () => {
  // Installs what is missing.
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

  it('keeps its data over a kill -9 and a new start', async () => {
    const first = await start('redis');
    await onRedis(first.url, (client) => client.set('kept', 'yes'));
    for (const managed of first.processes) {
      killProcessNow(managed);
      await eventually('Redis is gone', () => !isAlive(managed));
    }
    const second = await start('redis');
    assert.equal(await onRedis(second.url, (client) => client.get('kept')), 'yes');
    const settings = await onRedis(second.url, (client) => client.config('GET', 'append*'));
    assert.deepEqual([settings].flat().includes('always'), true);
    await second.stop();
    assert.ok(second.processes.every((managed) => !isAlive(managed)));
  });

  it('is adopted by the next launcher when its own was killed', async () => {
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

  it('restarts in place at the same address with its data after its process was killed', async () => {
    const server = await start('redis');
    await onRedis(server.url, (client) => client.set('kept', 'still'));
    const supervised = supervisedServer(server);
    assert.ok(supervised);
    assert.ok(supervised.isRunning());
    const [killed] = server.processes;
    assert.ok(killed);
    killProcessNow(killed);
    await eventually('Redis is gone', () => !supervised.isRunning());
    assert.match(supervised.describeExit(), /^Redis ended\. The end of the log \(.*redis\/log\):/);
    await supervised.restart(never);
    assert.ok(supervised.isRunning());
    assert.notEqual(server.processes[0]?.pid, killed.pid);
    assert.equal(await onRedis(server.url, (client) => client.get('kept')), 'still');
    await server.stop();
  });

  it('rejects a wrong password', async () => {
    const { url, stop } = await start('postgres');
    const stranger = new URL(url);
    stranger.password = 'guessed';
    const client = new pg.Client({ connectionString: stranger.href });
    await assert.rejects(client.connect(), /password authentication failed/);
    await stop();
  });

  it('leaves a process alone that got the pid of an earlier server', async () => {
    const state = {
      processes: [{ name: 'Redis', pid: process.pid, startedAt: 'before', stopSignal: 'SIGKILL', graceMs: 1 }],
    };
    writeFileSync(join(root, 'redis.json'), JSON.stringify(state));
    const server = await start('redis');
    await server.stop();
  });

  it('takes another port when it loses one between the look for it and the start', async () => {
    const taken = await freePort();
    const stranger = createServer().listen(taken, '127.0.0.1');
    await eventually('the other process listens', () => stranger.listening);
    let asked = 0;
    const server = await start('redis', async () => (asked++ === 0 ? taken : freePort()));
    assert.equal(asked, 2);
    assert.notEqual(new URL(server.url).port, String(taken));
    await server.stop();
    stranger.close();
  });

  it('fails to start with the end of its log', async () => {
    const server = await start('redis');
    await server.stop();
    const configuration = join(root, 'redis', 'appendonlydir');
    rmSync(configuration, { recursive: true, force: true });
    writeFileSync(configuration, 'a file in place of a folder');
    await assert.rejects(start('redis'), /Redis exited with code 1\. The end of its log \(.*redis\/log\):/);
    rmSync(configuration);
  });

  it('leaves nothing behind when its start is cancelled', async () => {
    const controller = new AbortController();
    const folder = mkdtempSync(join(tmpdir(), 'kaimai-private-'));
    chmodSync(folder, 0o711);
    const options = { root: folder, port: nextFreePort, signal: controller.signal, removeData: true };
    const starting = startServer('postgres', { type: 'programs' }, options);
    controller.abort(new Error('cancelled'));
    await assert.rejects(starting);
    assert.throws(() => readFileSync(join(folder, 'postgres.json')), /ENOENT/);
    rmSync(folder, { recursive: true, force: true });
  });
});

describe('The source of a server', () => {
  const saved = { ...process.env };
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-docker-'));

  afterEach(() => {
    process.env = { ...saved };
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Puts a script first on the PATH as `docker`. */
  function docker(script: string): void {
    writeFileSync(join(folder, 'docker'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    process.env.PATH = `${folder}:${saved.PATH}`;
  }

  it('is a URL in the environment before anything else', async () => {
    docker('exit 0');
    process.env.KAIMAI_REDIS_URL = 'redis://example.test:1';
    delete process.env.KAIMAI_POSTGRES_URL;
    const sources = await chooseSources(['redis', 'postgres']);
    assert.deepEqual(sources.get('redis'), { type: 'given', url: 'redis://example.test:1' });
    assert.deepEqual(sources.get('postgres'), { type: 'compose', firstStart: true });
  });

  it('is a program on this machine when no Docker engine answers', async () => {
    docker('exit 1');
    delete process.env.KAIMAI_REDIS_URL;
    assert.deepEqual((await chooseSources(['redis'])).get('redis'), { type: 'programs' });
  });

  it('must answer when it is a URL', async () => {
    const port = await freePort();
    const url = `redis://127.0.0.1:${port}`;
    const options = { root: folder, port: freePort, signal: new AbortController().signal, removeData: true };
    await assert.rejects(
      startServer('redis', { type: 'given', url }, options),
      new RegExp(`nothing answers on 127\\.0\\.0\\.1:${port} \\(from KAIMAI_REDIS_URL\\)`),
    );
  });

  describe('when a Docker engine answers', () => {
    let root: string;
    let calls: string;

    beforeEach(() => {
      root = mkdtempSync(join(tmpdir(), 'kaimai-compose-'));
      chmodSync(root, 0o711);
      calls = join(root, 'calls');
      for (const name of ['POSTGRES', 'REDIS', 'RABBITMQ']) delete process.env[`KAIMAI_${name}_URL`];
    });
    afterEach(() => rmSync(root, { recursive: true, force: true }));

    function options(overrides: Partial<StartOptions> = {}): StartOptions {
      return { root, port: nextFreePort, signal: new AbortController().signal, removeData: false, ...overrides };
    }

    function composeCalls(): string[] {
      return readFileSync(calls, 'utf8').trim().split('\n');
    }

    /** A docker that writes down its compose calls, and runs the script for each of them. */
    function recordingDocker(script = ''): void {
      docker(`case "$*" in info*|'compose version') exit 0;; esac\necho "$*" >> ${calls}\n${script}`);
    }

    it('is one call of docker compose for all servers, each stopped by its name', async () => {
      recordingDocker(`echo "$KAIMAI_POSTGRES_PORT $KAIMAI_REDIS_PORT $KAIMAI_RABBITMQ_PORT" >> ${calls}`);
      const sources = await chooseSources(['postgres', 'redis', 'rabbitmq'], { root });
      const servers = await Promise.all(startServers(sources, options()).values());
      const portOf = (server: RunningServer) => new URL(server.url.replace(/^\w+:/, 'http:')).port;
      const [up, ports, ...more] = composeCalls();
      assert.match(
        up ?? '',
        /^compose --file .*docker-compose\.yml --project-name kaimai-\w+ up --detach --wait --no-deps postgres redis rabbitmq$/,
      );
      assert.equal(ports, servers.map(portOf).join(' '));
      assert.deepEqual(more, []);
      await Promise.all(servers.map((server) => server.stop()));
      const stops = composeCalls().filter((call) => call.includes(' stop '));
      assert.deepEqual(
        stops.map((call) => call.replace(/.* stop /, '')),
        ['--timeout 30 postgres', '--timeout 30 redis', '--timeout 30 rabbitmq'],
      );
    });

    it('runs the calls of one project one after the other', async () => {
      recordingDocker(`sleep 0.1; echo "end $*" >> ${calls}`);
      await Promise.all(
        (['redis', 'postgres'] as const).map((name) =>
          startServer(name, { type: 'compose', firstStart: true }, options()),
        ),
      );
      assert.deepEqual(
        composeCalls().map((call) => (call.startsWith('end ') ? 'end' : 'begin')),
        ['begin', 'end', 'begin', 'end'],
      );
    });

    it('removes the volumes with the last server when its data is temporary', async () => {
      recordingDocker();
      const sources = await chooseSources(['postgres', 'redis'], { root });
      const servers = await Promise.all(startServers(sources, options({ removeData: true })).values());
      for (const server of servers) await server.stop();
      assert.deepEqual(
        composeCalls()
          .slice(1)
          .map((call) => call.replace(/.*--project-name \S+ /, '')),
        ['stop --timeout 30 postgres', 'down --volumes --timeout 30'],
      );
    });

    it('falls back to programs at the very first start, and shows what docker compose said', async () => {
      recordingDocker('case "$*" in *" up "*) echo "pull access denied" >&2; exit 1;; esac');
      const warnings: string[] = [];
      const warn = (message: string) => void warnings.push(message);
      const sources = await chooseSources(['redis'], { root });
      const server = await Promise.all(startServers(sources, options({ warn })).values());
      assert.match(server[0]?.origin ?? '', /^pid \d+, data in /);
      assert.match(
        warnings.join('\n'),
        /^docker compose up .* failed:\npull access denied\nUsing programs on this machine/,
      );
      await server[0]?.stop();

      recordingDocker();
      const again = await chooseSources(['redis'], { root });
      assert.deepEqual(again.get('redis'), { type: 'programs' }, 'an engine that works now does not move the data');
    });

    it('stays docker compose once its data is in a volume', async () => {
      recordingDocker();
      await startServer('redis', { type: 'compose', firstStart: true }, options());
      assert.deepEqual((await chooseSources(['redis'], { root })).get('redis'), { type: 'compose', firstStart: false });

      recordingDocker('echo "no space left on device" >&2; exit 1');
      await assert.rejects(
        startServer('redis', { type: 'compose', firstStart: false }, options()),
        /docker compose up .* failed:\nno space left on device/,
      );

      docker('exit 1');
      await assert.rejects(
        chooseSources(['redis'], { root }),
        /The data of Redis is in a Docker volume, and no Docker engine answers\.\nStart Docker, or run `kaimai up --servers programs`/,
      );
      assert.deepEqual((await chooseSources(['redis'], { root, place: 'programs' })).get('redis'), {
        type: 'programs',
      });
    });

    it('stays a program once its data is in the data directory, unless the user says otherwise', async () => {
      mkdirSync(join(root, 'redis'));
      docker('exit 0');
      assert.deepEqual((await chooseSources(['redis'], { root })).get('redis'), { type: 'programs' });
      assert.deepEqual((await chooseSources(['redis'], { root, place: 'docker' })).get('redis'), {
        type: 'compose',
        firstStart: false,
      });
    });
  });
});
