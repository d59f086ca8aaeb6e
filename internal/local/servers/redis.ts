import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { serverAccount } from './account.js';
import { findProgram } from './binaries.js';
import { spawnProcess, untilReady } from './process.js';
import type { Endpoint, ServerKind, StartContext } from './server.js';

/** A private Redis that writes every change to its append-only file before it answers. */
export const redis: ServerKind = {
  name: 'redis',
  title: 'Redis',
  urlVariable: 'KAIMAI_REDIS_URL',
  aptPackages: ['redis-server'],
  account: 'redis',
  find: () => findProgram('redis-server'),
  start,
};

async function start(program: string, ctx: StartContext): Promise<Endpoint> {
  const port = await ctx.port(6379);
  const configuration = join(ctx.dir, 'redis.conf');
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    'protected-mode yes',
    'daemonize no',
    `dir "${ctx.dir}"`,
    'appendonly yes',
    'appendfsync always',
    'save ""',
    // Admission state must never be evicted.
    'maxmemory-policy noeviction',
    // Each test suite takes a database of its own.
    'databases 1024',
  ];
  writeFileSync(configuration, `${lines.join('\n')}\n`, { mode: 0o644 });
  const logFile = join(ctx.dir, 'log');
  const child = spawnProcess({
    name: redis.title,
    command: program,
    args: [configuration],
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
    cwd: ctx.dir,
    logFile,
    account: serverAccount(redis.account),
    stopSignal: 'SIGTERM',
    graceMs: 10_000,
  });
  ctx.spawned(child);
  const ready = async () => {
    const info = await ask(port, 'INFO\r\n');
    return info.includes(`process_id:${child.pid}\r`) && info.includes('loading:0\r');
  };
  await untilReady(child, logFile, ready, { timeoutMs: 60_000, signal: ctx.signal });
  return { url: `redis://127.0.0.1:${port}`, extras: {} };
}

/** The reply to one inline command; empty when there is none. */
function ask(port: number, command: string): Promise<string> {
  return new Promise((resolve) => {
    let reply = '';
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(`${command}QUIT\r\n`));
    socket.setEncoding('utf8').setTimeout(2000, () => socket.destroy());
    socket.on('data', (chunk) => {
      reply += chunk;
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(reply));
  });
}
