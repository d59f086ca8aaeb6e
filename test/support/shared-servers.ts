/**
 * The servers that all suites of one mocha run share. Each is started on first use, in a temporary folder, and stopped
 * after
 * the last suite. A killed run leaves its servers behind; the next run of any checkout stops them.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { forgetOwnUrls } from '../../internal/local/run-env.js';
import { isRoot, isTraversable } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { isAlive, killProcessNow, type ProcessId, startTime } from '../../internal/local/servers/process.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import { chooseSources, installMissing, startServer, stopLeftovers } from '../../internal/local/servers/servers.js';

/** Long enough to install the packages first. */
export const START_TIMEOUT_MS = 15 * 60_000;
const PREFIX = 'kaimai-test-';
const base = isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir();

const starting = new Map<ServerName, Promise<RunningServer>>();
const started: RunningServer[] = [];
const abort = new AbortController();
let root: Promise<string> | undefined;
// apt installs for one suite at a time.
let installing: Promise<unknown> = Promise.resolve();

const endings: (() => Promise<unknown>)[] = [];

/** Runs after the last suite, before the servers are stopped. */
export function atEnd(work: () => Promise<unknown>): void {
  endings.push(work);
}

export function sharedServer(name: ServerName): Promise<RunningServer> {
  let server = starting.get(name);
  if (!server) {
    server = start(name);
    starting.set(name, server);
  }
  return server;
}

async function start(name: ServerName): Promise<RunningServer> {
  root ??= makeRoot();
  const folder = await root;
  const sources = await chooseSources([name]);
  const install = installing.then(() => {
    if (sources.get(name)?.type === 'apt') console.error(`installing ${name} by apt …`);
    return installMissing(sources, abort.signal, () => {});
  });
  installing = install.catch(() => {});
  await install;
  const source = sources.get(name);
  if (!source) throw new Error(`no source for ${name}`);
  const options = { root: folder, port: freePort, signal: abort.signal, removeData: true };
  const server = await startServer(name, source, options);
  started.push(server);
  return server;
}

async function makeRoot(): Promise<string> {
  forgetOwnUrls();
  await sweep();
  const folder = mkdtempSync(join(base, PREFIX));
  const owner: ProcessId = { pid: process.pid, startedAt: startTime(process.pid) ?? '' };
  writeFileSync(join(folder, 'owner.json'), JSON.stringify(owner));
  process.once('exit', () => {
    // Servers still run here only if mocha was interrupted.
    for (const managed of started.flatMap((server) => server.processes).reverse()) killProcessNow(managed);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Stops the servers of runs whose process no longer exists. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(base).filter((entry) => entry.startsWith(PREFIX))) {
    const folder = join(base, name);
    let owner: ProcessId;
    try {
      owner = JSON.parse(readFileSync(join(folder, 'owner.json'), 'utf8')) as ProcessId;
    } catch {
      continue;
    }
    if (isAlive(owner)) continue;
    await stopLeftovers(folder);
    rmSync(folder, { recursive: true, force: true });
  }
}

after('stop the servers of the test run', async () => {
  abort.abort();
  await Promise.allSettled(starting.values());
  await Promise.allSettled(endings.splice(0).map((work) => work()));
  for (const server of started) {
    // Its data is deleted anyway, and the Erlang VM takes six seconds to shut down.
    if (server.name === 'rabbitmq') for (const managed of server.processes) killProcessNow(managed);
  }
  await Promise.all(started.splice(0).map((server) => server.stop()));
  if (root) rmSync(await root, { recursive: true, force: true });
});
