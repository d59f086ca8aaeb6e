/**
 * The servers Kaimai needs, from wherever they can be had. For each of them, the first that applies:
 * a URL in the environment; docker compose, if an engine answers; programs on this machine; packages by apt. What is
 * started here is private: data of its own, loopback only, and only what was started here is ever stopped.
 */

import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../../kratos/errors/error-text.js';
import { isRoot, makePrivateDirectory, serverAccount } from './account.js';
import { aptInstall, aptIsUsable } from './apt.js';
import { ComposeProject, composeAnswers } from './compose.js';
import { etcd } from './etcd.js';
import { isListening, returnPort } from './ports.js';
import { postgres } from './postgres.js';
import { isAlive, type ManagedProcess, type SpawnedProcess, stopProcess } from './process.js';
import { rabbitmq } from './rabbitmq.js';
import { redis } from './redis.js';
import type { Endpoint, RunningServer, ServerKind, ServerName } from './server.js';

export const serverKinds: Record<ServerName, ServerKind> = { postgres, redis, rabbitmq, etcd };

export type Source =
  | { type: 'given'; url: string }
  | { type: 'compose' }
  | { type: 'programs' }
  | { type: 'apt'; packages: string[] };

export interface StartOptions {
  /** The folder that holds one directory per server. Must be traversable by every account when root starts servers. */
  root: string;
  /** A port to listen on, given the standard one: `nextFreePort` or `freePort`. */
  port(standard: number): Promise<number>;
  signal: AbortSignal;
  /** Remove the data of servers that run in containers when they stop. */
  removeData: boolean;
}

interface State {
  /** Written only once it serves. */
  endpoint: Endpoint | undefined;
  processes: ManagedProcess[];
}

const PORT_ATTEMPTS = 5;

/** Decides where each server comes from. Throws one error that names all that cannot be had, and what to do. */
export async function chooseSources(names: readonly ServerName[]): Promise<Map<ServerName, Source>> {
  const sources = new Map<ServerName, Source>();
  const missing: ServerKind[] = [];
  let docker: Promise<boolean> | undefined;
  const dockerAnswers = () => {
    docker ??= composeAnswers();
    return docker;
  };
  for (const name of names) {
    const kind = serverKinds[name];
    const url = process.env[kind.urlVariable];
    if (url) sources.set(name, { type: 'given', url });
    else if (name !== 'etcd' && (await dockerAnswers())) sources.set(name, { type: 'compose' });
    else if (kind.find() !== undefined) sources.set(name, { type: 'programs' });
    else if (aptIsUsable()) sources.set(name, { type: 'apt', packages: kind.aptPackages });
    else missing.push(kind);
  }
  if (missing.length > 0) throw new Error(howToGet(missing));
  return sources;
}

function howToGet(missing: ServerKind[]): string {
  const titles = missing.map((kind) => kind.title).join(', ');
  const packages = missing.flatMap((kind) => kind.aptPackages).join(' ');
  const variables = missing.map((kind) => kind.urlVariable).join(', ');
  return [
    `Not found on this machine: ${titles}. Any one of these helps:`,
    `  - on Debian or Ubuntu:  sudo apt-get update && sudo apt-get install ${packages}`,
    `  - on macOS:             brew install ${missing.map((kind) => BREW[kind.name]).join(' ')}`,
    '  - start Docker: the servers then run in containers',
    `  - name servers that run already: ${variables}`,
  ].join('\n');
}

const BREW: Record<ServerName, string> = {
  postgres: 'postgresql@17',
  redis: 'redis',
  rabbitmq: 'rabbitmq',
  etcd: 'etcd',
};

/** Installs by apt what the sources ask for, all in one go. Afterwards those servers are `programs`. */
export async function installMissing(
  sources: Map<ServerName, Source>,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  const wanted = [...sources].flatMap(([name, source]) => (source.type === 'apt' ? [{ name, source }] : []));
  if (wanted.length === 0) return;
  const packages = wanted.flatMap(({ source }) => source.packages);
  await aptInstall(packages, signal, onLine);
  for (const { name } of wanted) {
    if (serverKinds[name].find() === undefined) {
      throw new Error(`${serverKinds[name].title} is still not to be found after apt installed ${packages.join(' ')}`);
    }
    sources.set(name, { type: 'programs' });
  }
}

/** Starts one server, or finds the one that an earlier launcher left running, and resolves when it serves. */
export async function startServer(name: ServerName, source: Source, options: StartOptions): Promise<RunningServer> {
  switch (source.type) {
    case 'given':
      return useGiven(serverKinds[name], source.url);
    case 'compose':
      return startInContainer(name, options);
    case 'programs':
      return startPrograms(serverKinds[name], options);
    case 'apt':
      throw new Error(`${serverKinds[name].title} is not installed yet`);
    default:
      return source satisfies never;
  }
}

const STANDARD_PORTS: Record<string, number> = {
  'postgres:': 5432,
  'postgresql:': 5432,
  'redis:': 6379,
  'rediss:': 6379,
  'amqp:': 5672,
  'amqps:': 5671,
};

async function useGiven(kind: ServerKind, url: string): Promise<RunningServer> {
  // etcd is given as a list; the first one is asked.
  const first = url.split(',')[0] ?? url;
  const { hostname, port, protocol } = new URL(first.includes('://') ? first : `tcp://${first}`);
  const number = Number(port) || STANDARD_PORTS[protocol];
  const host = hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  if (number && !(await isListening(number, host, 5000))) {
    throw new Error(`${kind.title}: nothing answers on ${host}:${number}, which ${kind.urlVariable} names`);
  }
  const origin = `given by ${kind.urlVariable}`;
  return { name: kind.name, url, extras: {}, origin, processes: [], logFile: undefined, stop: async () => {} };
}

async function startInContainer(name: ServerName, options: StartOptions): Promise<RunningServer> {
  if (name === 'etcd') throw new Error('docker-compose.yml has no etcd');
  const project = new ComposeProject(options.root);
  try {
    const endpoint = await project.start(name, options.port, options.signal);
    const stop = () => project.stop(name, options.removeData);
    return { name, ...endpoint, origin: 'in a container', processes: [], logFile: undefined, stop };
  } catch (error) {
    // An engine that answers may still be unable to pull an image.
    const kind = serverKinds[name];
    await project.stop(name, options.removeData).catch(() => {});
    if (options.signal.aborted || (kind.find() === undefined && !aptIsUsable())) throw error;
    if (kind.find() === undefined) await aptInstall(kind.aptPackages, options.signal, () => {});
    const started = await startPrograms(kind, options);
    return { ...started, origin: `${started.origin} (its container did not start)` };
  }
}

async function startPrograms(kind: ServerKind, options: StartOptions): Promise<RunningServer> {
  const dir = join(options.root, kind.name);
  const stateFile = join(options.root, `${kind.name}.json`);
  prepareRoot(options.root);
  makePrivateDirectory(dir, serverAccount(kind.account));

  const left = readState(stateFile);
  if (left?.endpoint && left.processes.every(isAlive)) {
    return running(kind, dir, stateFile, left.endpoint, left.processes);
  }
  await stopAll(left?.processes ?? []);

  for (let attempt = 1; ; attempt++) {
    const processes: SpawnedProcess[] = [];
    const ports: number[] = [];
    const spawned = (child: SpawnedProcess) => {
      processes.push(child);
      writeState(stateFile, { endpoint: undefined, processes });
    };
    const port = async (standard: number) => {
      const taken = await options.port(standard);
      ports.push(taken);
      return taken;
    };
    const programs = kind.find();
    if (programs === undefined) throw new Error(`${kind.title} is not installed`);
    try {
      options.signal.throwIfAborted();
      const endpoint = await kind.start(programs, { dir, port, spawned, signal: options.signal });
      writeState(stateFile, { endpoint, processes });
      return running(kind, dir, stateFile, endpoint, processes);
    } catch (error) {
      await stopAll(processes);
      rmSync(stateFile, { force: true });
      // Between looking for a free port and listening on it another process may have taken it.
      const lostPort = /address already in use|eaddrinuse/i.test(errorText(error));
      if (!lostPort || attempt === PORT_ATTEMPTS || options.signal.aborted) {
        for (const taken of ports) returnPort(taken);
        throw error;
      }
    }
  }
}

function running(
  kind: ServerKind,
  dir: string,
  stateFile: string,
  endpoint: Endpoint,
  processes: ManagedProcess[],
): RunningServer {
  const main = processes.at(-1);
  return {
    name: kind.name,
    ...endpoint,
    origin: `pid ${main?.pid}, data in ${dir}`,
    processes,
    logFile: join(dir, 'log'),
    async stop() {
      await stopAll(processes);
      rmSync(stateFile, { force: true });
    },
  };
}

/** In reverse of the order they were started in. */
async function stopAll(processes: readonly ManagedProcess[]): Promise<void> {
  for (const managed of [...processes].reverse()) await stopProcess(managed);
}

/** Stops whatever an earlier launcher left running with data under this folder. */
export async function stopLeftovers(root: string): Promise<void> {
  for (const name of Object.keys(serverKinds)) {
    const stateFile = join(root, `${name}.json`);
    await stopAll(readState(stateFile)?.processes ?? []);
    rmSync(stateFile, { force: true });
  }
}

function prepareRoot(root: string): void {
  mkdirSync(root, { recursive: true });
  // The accounts of the servers pass through it on the way to their own directories, which are closed to each other.
  if (isRoot) chmodSync(root, 0o711);
}

function readState(file: string): State | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as State;
  } catch {
    return undefined;
  }
}

/** Readable by its owner alone: the endpoint has the password in it. */
function writeState(file: string, state: State): void {
  writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
}
