import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { isRoot, serverAccount } from './account.js';
import { findProgram, isExecutable, versionsIn } from './binaries.js';
import { spawnProcess, untilReady } from './process.js';
import type { Endpoint, ServerKind, StartContext } from './server.js';

const DATABASE = 'product_db';
const START_TIMEOUT_MS = 60_000;
const ENVIRONMENT = { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' };

/** A private PostgreSQL. Durability is left at its defaults: fsync, full pages, synchronous commit. */
export const postgres: ServerKind = {
  name: 'postgres',
  title: 'PostgreSQL',
  urlVariable: 'KAIMAI_POSTGRES_URL',
  aptPackages: ['postgresql'],
  account: 'postgres',
  find,
  start,
};

function find(): string | undefined {
  const candidates = versionsIn('/usr/lib/postgresql').map((version) => join('/usr/lib/postgresql', version, 'bin'));
  const onPath = findProgram('postgres');
  if (onPath) candidates.push(dirname(realpathSync(onPath)));
  return candidates.find((directory) => ['postgres', 'initdb'].every((name) => isExecutable(join(directory, name))));
}

async function start(programs: string, ctx: StartContext): Promise<Endpoint> {
  const account = serverAccount(postgres.account);
  if (isRoot && !account) {
    throw new Error('PostgreSQL does not run as root, and there is no account "postgres" to run it under');
  }
  const data = join(ctx.dir, 'data');
  const passwordFile = join(ctx.dir, 'password');
  if (!existsSync(data)) await initialize(programs, data, passwordFile);
  const bin = programsFor(data, programs);

  const port = await ctx.port(5432);
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    // The path of a socket may have 107 bytes at most; a project can lie deeper than that.
    unix_socket_directories: '',
    max_connections: '300',
    timezone: 'UTC',
    log_timezone: 'UTC',
  };
  const logFile = join(ctx.dir, 'log');
  const child = spawnProcess({
    name: postgres.title,
    command: join(bin, 'postgres'),
    args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    env: ENVIRONMENT,
    cwd: ctx.dir,
    logFile,
    account,
    // Fast shutdown: disconnects clients, then writes a checkpoint.
    stopSignal: 'SIGINT',
    graceMs: 20_000,
  });
  ctx.spawned(child);
  await untilReady(child, logFile, () => isReady(data, child.pid), { timeoutMs: START_TIMEOUT_MS, signal: ctx.signal });

  const password = readFileSync(passwordFile, 'utf8').trim();
  const server = `postgres://postgres:${password}@127.0.0.1:${port}`;
  await createDatabase(server);
  const extras = { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'postgres', PGPASSWORD: password };
  return { url: `${server}/${DATABASE}`, extras };

  async function initialize(programs: string, data: string, passwordFile: string): Promise<void> {
    // A generated password, since who reaches a superuser runs programs as the account of the server.
    writeFileSync(passwordFile, randomBytes(18).toString('hex'), { mode: 0o600 });
    if (account) chownSync(passwordFile, account.uid, account.gid);
    const unfinished = `${data}.new`;
    rmSync(unfinished, { recursive: true, force: true });
    const args = ['-D', unfinished, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`];
    args.push('-E', 'UTF8', '--no-locale', '--data-checksums');
    await promisify(execFile)(join(programs, 'initdb'), args, {
      cwd: ctx.dir,
      env: ENVIRONMENT,
      timeout: START_TIMEOUT_MS,
      signal: ctx.signal,
      ...(account && { uid: account.uid, gid: account.gid }),
    });
    renameSync(unfinished, data);
  }
}

/** Data of an older major version is served by that version if it is still installed. */
function programsFor(data: string, newest: string): string {
  const version = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
  const own = join('/usr/lib/postgresql', version, 'bin');
  return isExecutable(join(own, 'postgres')) ? own : newest;
}

/** The last line of postmaster.pid says so (a standby has a word of its own); an answer on the port may be another server's. */
function isReady(data: string, pid: number): boolean {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
    return lines[0] === String(pid) && ['ready', 'standby'].includes(lines[7]?.trim() ?? '');
  } catch {
    return false;
  }
}

async function createDatabase(server: string): Promise<void> {
  const client = new pg.Client({ connectionString: `${server}/postgres`, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await client.end();
  }
}

/** One statement on a connection of its own. */
export async function queryOnce<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 60_000 });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}
