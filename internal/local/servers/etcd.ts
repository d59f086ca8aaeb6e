import { join } from 'node:path';
import { serverAccount } from './account.js';
import { findProgram } from './binaries.js';
import { spawnProcess, untilReady } from './process.js';
import type { Endpoint, ServerKind, StartContext } from './server.js';

/** A private etcd of one member. */
export const etcd: ServerKind = {
  name: 'etcd',
  title: 'etcd',
  urlVariable: 'KAIMAI_ETCD_URL',
  aptPackages: ['etcd-server'],
  account: 'etcd',
  find: () => findProgram('etcd'),
  start,
};

async function start(program: string, ctx: StartContext): Promise<Endpoint> {
  const [clientPort, peerPort] = [await ctx.port(2379), await ctx.port(2380)];
  const url = `http://127.0.0.1:${clientPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const logFile = join(ctx.dir, 'log');
  const child = spawnProcess({
    name: etcd.title,
    command: program,
    args: [
      `--data-dir=${join(ctx.dir, 'data')}`,
      '--name=kaimai',
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=kaimai=${peerUrl}`,
      '--logger=zap',
    ],
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
    cwd: ctx.dir,
    logFile,
    account: serverAccount(etcd.account),
    stopSignal: 'SIGTERM',
    graceMs: 10_000,
  });
  ctx.spawned(child);
  const ready = async () => {
    if (child.exit !== undefined) return false;
    try {
      const reply = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2000) });
      return reply.ok && ((await reply.json()) as { health: unknown }).health === 'true';
    } catch {
      return false;
    }
  };
  await untilReady(child, logFile, ready, { timeoutMs: 60_000, signal: ctx.signal });
  return { url, extras: {} };
}
