/**
 * The servers that Kaimai needs. Each comes from the first of: a URL in the environment; docker compose, if an engine
 * answers; programs on this machine; packages that apt installs. A server that is started here is private: it has data of
 * its own and listens on loopback. Servers that run already are never stopped.
 *
 * The data of a server stays where its first start put it, a Docker volume or a directory: a later start that finds an
 * engine, or finds none, must not begin silently with an empty database.
 */

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parsePostgresUrl } from '../../conf/postgres-url.js';
import { withPassword } from '../../conf/url-password.js';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Supervised } from '../supervisor.js';
import { isRoot, makePrivateDirectory, serverAccount } from './account.js';
import { aptInstall, aptIsUsable } from './apt.js';
import { ComposeProject, type ComposeServer, composeAnswers } from './compose.js';
import { etcd } from './etcd.js';
import { isListening, returnPort } from './ports.js';
import { postgres } from './postgres.js';
import { isAlive, type ManagedProcess, type SpawnedProcess, stopProcess, tail } from './process.js';
import { rabbitmq } from './rabbitmq.js';
import { redis } from './redis.js';
import type { Endpoint, RunningServer, ServerKind, ServerName } from './server.js';

export const serverKinds: Record<ServerName, ServerKind> = { postgres, redis, rabbitmq, etcd };

/** Where the private servers of a data directory run. */
export const PLACES = ['docker', 'programs'] as const;
export type Place = (typeof PLACES)[number];

export type Source =
  | { type: 'given'; url: string }
  /** @property firstStart no data exists yet, so programs may stand in for an engine that cannot start a container */
  | { type: 'compose'; firstStart: boolean }
  | { type: 'programs' }
  | { type: 'apt'; packages: string[] };

export interface StartOptions {
  /** The folder that holds one directory per server. Must be traversable by every account when root starts servers. */
  root: string;
  /** Returns a port to listen on for a standard one: `nextFreePort` or `freePort`. */
  port(standard: number): Promise<number>;
  signal: AbortSignal;
  /** Remove the volumes of containers when they stop, and do not remember where the data is. */
  removeData: boolean;
  /** Receives what the user should know about a start that succeeded otherwise than expected. Default: stderr. */
  warn?(message: string): void;
}

interface State {
  /** Written only once it serves. */
  endpoint: Endpoint | undefined;
  processes: readonly ManagedProcess[];
  /** The port it was given for each standard one. */
  ports: Record<string, number>;
}

const PORT_ATTEMPTS = 5;

/**
 * Decides where each server comes from.
 *
 * @param options.root the data directory; without it, no earlier choice binds
 * @param options.place overrides the earlier choice
 * @throws one error that names everything that is missing, and what to do
 */
export async function chooseSources(
  names: readonly ServerName[],
  options: { root?: string; place?: Place | undefined } = {},
): Promise<Map<ServerName, Source>> {
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
    const earlier = options.root === undefined ? undefined : placeOfData(options.root, name);
    const place = name === 'etcd' ? 'programs' : (options.place ?? earlier);
    if (url) sources.set(name, { type: 'given', url: withPassword(url, givenPassword(kind)) });
    else if (place === 'docker' && !(await dockerAnswers())) throw new Error(noEngine(kind, earlier));
    else if (place !== 'programs' && (await dockerAnswers())) {
      sources.set(name, { type: 'compose', firstStart: place === undefined });
    } else if (kind.find() !== undefined) sources.set(name, { type: 'programs' });
    else if (aptIsUsable()) sources.set(name, { type: 'apt', packages: kind.aptPackages });
    else missing.push(kind);
  }
  if (missing.length > 0) throw new Error(howToGet(missing));
  return sources;
}

/** The password of a given URL, if it is given apart from it. */
function givenPassword(kind: ServerKind): string {
  return process.env[kind.urlVariable.replace(/_URL$/, '_PASSWORD')] ?? '';
}

function noEngine(kind: ServerKind, earlier: Place | undefined): string {
  if (earlier !== 'docker') return `${kind.title}: no Docker engine answers`;
  return [
    `The data of ${kind.title} is in a Docker volume, and no Docker engine answers.`,
    'Start Docker, or run `kaimai up --servers programs` to use programs on this machine with data of their own.',
  ].join('\n');
}

function howToGet(missing: ServerKind[]): string {
  const titles = missing.map((kind) => kind.title).join(', ');
  const packages = missing.flatMap((kind) => kind.aptPackages).join(' ');
  const variables = missing.map((kind) => kind.urlVariable).join(', ');
  return [
    `Not found on this machine: ${titles}. Do one of these:`,
    `  - on Debian or Ubuntu:  sudo apt-get update && sudo apt-get install ${packages}`,
    `  - on macOS:             brew install ${missing.map((kind) => BREW[kind.name]).join(' ')}`,
    '  - start Docker; the servers then run in containers',
    `  - set the URLs of servers that run already: ${variables}`,
  ].join('\n');
}

const BREW: Record<ServerName, string> = {
  postgres: 'postgresql@17',
  redis: 'redis',
  rabbitmq: 'rabbitmq',
  etcd: 'etcd',
};

/** Installs the packages that the sources name in one run of apt. Afterwards those sources are `programs`. */
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
      throw new Error(`apt installed ${packages.join(' ')}, but ${serverKinds[name].title} was still not found`);
    }
    sources.set(name, { type: 'programs' });
  }
}

/** Starts one server, or adopts the one that an earlier launcher left running; resolves when it serves. */
export async function startServer(name: ServerName, source: Source, options: StartOptions): Promise<RunningServer> {
  const server = startServers(new Map([[name, source]]), options).get(name);
  if (!server) throw new Error(`${name} was not started`);
  return server;
}

/** Starts servers concurrently; those in containers by one call of docker compose. */
export function startServers(
  sources: ReadonlyMap<ServerName, Source>,
  options: StartOptions,
): Map<ServerName, Promise<RunningServer>> {
  const inContainers = [...sources].flatMap(([name, { type }]) =>
    type === 'compose' && name !== 'etcd' ? [name] : [],
  );
  const containers = inContainers.length > 0 ? startInContainers(inContainers, sources, options) : undefined;
  const start = async (name: ServerName, source: Source): Promise<RunningServer> => {
    switch (source.type) {
      case 'given':
        return useGiven(serverKinds[name], source.url);
      case 'compose': {
        const server = (await containers)?.get(name);
        if (!server) throw new Error(`docker-compose.yml has no ${name}`);
        return server;
      }
      case 'programs':
        return startPrograms(serverKinds[name], options);
      case 'apt':
        throw new Error(`${serverKinds[name].title} is not installed yet`);
      default:
        return source satisfies never;
    }
  };
  return new Map([...sources].map(([name, source]) => [name, start(name, source)]));
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
  // etcd and RabbitMQ are given as lists of URLs, PostgreSQL as a URL with several hosts.
  const urls = kind.name === 'postgres' ? parsePostgresUrl(url).urls : url.split(',');
  const silent: string[] = [];
  for (const one of urls) {
    const { hostname, port, protocol } = new URL(one.includes('://') ? one : `tcp://${one}`);
    const number = Number(port) || STANDARD_PORTS[protocol];
    const host = hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
    if (number && !(await isListening(number, host, 5000))) silent.push(`${host}:${number}`);
  }
  if (silent.length === urls.length) {
    throw new Error(`${kind.title}: nothing answers on ${silent.join(', ')} (from ${kind.urlVariable})`);
  }
  const origin = `from ${kind.urlVariable}`;
  return { name: kind.name, url, extras: {}, origin, processes: [], logFile: undefined, stop: async () => {} };
}

async function startInContainers(
  names: readonly ComposeServer[],
  sources: ReadonlyMap<ServerName, Source>,
  options: StartOptions,
): Promise<Map<ServerName, RunningServer>> {
  const project = ComposeProject.of(options.root);
  const servers = new Map<ServerName, RunningServer>();
  try {
    for (const [name, endpoint] of await project.start(names, options.port, options.signal)) {
      const stop = () => project.stop(name, options.removeData);
      servers.set(name, { name, ...endpoint, origin: 'in a container', processes: [], logFile: undefined, stop });
      rememberPlace(name, 'docker', options);
    }
  } catch (error) {
    for (const name of names) await project.stop(name, options.removeData).catch(() => {});
    // An engine that answers may still be unable to pull an image. Programs may stand in only where no volume has data.
    const replaceable = names.every((name) => {
      const source = sources.get(name);
      const installed = serverKinds[name].find() !== undefined || aptIsUsable();
      return source?.type === 'compose' && source.firstStart && installed;
    });
    if (options.signal.aborted || !replaceable) throw error;
    const warn = options.warn ?? console.error;
    warn(`${errorText(error)}\nUsing programs on this machine instead.`);
    const missing = names.filter((name) => serverKinds[name].find() === undefined);
    const packages = missing.flatMap((name) => serverKinds[name].aptPackages);
    if (packages.length > 0) await aptInstall(packages, options.signal, () => {});
    for (const name of names) servers.set(name, await startPrograms(serverKinds[name], options));
  }
  return servers;
}

const PLACES_FILE = 'places.json';

function readPlaces(root: string): Partial<Record<ServerName, Place>> {
  try {
    return JSON.parse(readFileSync(join(root, PLACES_FILE), 'utf8')) as Partial<Record<ServerName, Place>>;
  } catch {
    return {};
  }
}

/** Where the data of a server is, if it was started from this data directory before. */
function placeOfData(root: string, name: ServerName): Place | undefined {
  return readPlaces(root)[name] ?? (existsSync(join(root, name)) ? 'programs' : undefined);
}

function rememberPlace(name: ServerName, place: Place, { root, removeData }: StartOptions): void {
  if (removeData) return;
  prepareRoot(root);
  writeFileSync(join(root, PLACES_FILE), JSON.stringify({ ...readPlaces(root), [name]: place }));
}

/** Adapts a server that was started here to its supervisor; undefined for one that has no processes of ours. */
export function supervisedServer(server: RunningServer): Supervised | undefined {
  const { restart, logFile } = server;
  if (!restart) return undefined;
  return {
    name: serverKinds[server.name].title,
    isRunning: () => server.processes.every(isAlive),
    describeExit() {
      const ended = server.processes.filter((managed) => !isAlive(managed)).map((managed) => managed.name);
      return `${ended.join(' and ')} ended.${logFile ? ` The end of the log (${logFile}):\n${tail(logFile)}` : ''}`;
    },
    restart,
  };
}

async function startPrograms(kind: ServerKind, options: StartOptions): Promise<RunningServer> {
  const dir = join(options.root, kind.name);
  const stateFile = join(options.root, `${kind.name}.json`);
  prepareRoot(options.root);
  makePrivateDirectory(dir, serverAccount(kind.account));
  rememberPlace(kind.name, 'programs', options);

  const left = readState(stateFile);
  if (left?.endpoint && left.processes.every(isAlive)) {
    return running(kind, dir, stateFile, { ...left, endpoint: left.endpoint });
  }
  await stopAll(left?.processes ?? []);

  for (let attempt = 1; ; attempt++) {
    const ports: Record<string, number> = {};
    const port = async (standard: number) => {
      const picked = await options.port(standard);
      ports[standard] = picked;
      return picked;
    };
    try {
      return running(kind, dir, stateFile, await spawnServer(kind, dir, stateFile, ports, port, options.signal));
    } catch (error) {
      // Another process may have taken the port between the look for a free one and the start.
      const lostPort = /address already in use|eaddrinuse/i.test(errorText(error));
      if (!lostPort || attempt === PORT_ATTEMPTS || options.signal.aborted) {
        for (const picked of Object.values(ports)) returnPort(picked);
        throw error;
      }
    }
  }
}

type ServingState = State & { endpoint: Endpoint };

/** Starts the processes of one server and keeps them on record. Leaves none behind when it fails. */
async function spawnServer(
  kind: ServerKind,
  dir: string,
  stateFile: string,
  ports: Record<string, number>,
  port: (standard: number) => Promise<number>,
  signal: AbortSignal,
): Promise<ServingState> {
  const processes: SpawnedProcess[] = [];
  const spawned = (child: SpawnedProcess) => {
    processes.push(child);
    writeState(stateFile, { endpoint: undefined, processes, ports });
  };
  const programs = kind.find();
  if (programs === undefined) throw new Error(`${kind.title} is not installed`);
  try {
    signal.throwIfAborted();
    const endpoint = await kind.start(programs, { dir, port, spawned, signal });
    const state = { endpoint, processes, ports };
    writeState(stateFile, state);
    return state;
  } catch (error) {
    await stopAll(processes);
    rmSync(stateFile, { force: true });
    throw error;
  }
}

function running(kind: ServerKind, dir: string, stateFile: string, state: ServingState): RunningServer {
  let { processes } = state;
  return {
    name: kind.name,
    ...state.endpoint,
    origin: `pid ${processes.at(-1)?.pid}, data in ${dir}`,
    get processes() {
      return processes;
    },
    logFile: join(dir, 'log'),
    async restart(signal) {
      await stopAll(processes);
      const port = async (standard: number) => state.ports[standard] ?? standard;
      ({ processes } = await spawnServer(kind, dir, stateFile, state.ports, port, signal));
    },
    async stop() {
      await stopAll(processes);
      rmSync(stateFile, { force: true });
    },
  };
}

/** Stops processes in reverse order of their start. */
async function stopAll(processes: readonly ManagedProcess[]): Promise<void> {
  for (const managed of [...processes].reverse()) await stopProcess(managed);
}

/** Stops the servers that an earlier launcher left running with data under this folder. */
export async function stopLeftovers(root: string): Promise<void> {
  for (const name of Object.keys(serverKinds)) {
    const stateFile = join(root, `${name}.json`);
    await stopAll(readState(stateFile)?.processes ?? []);
    rmSync(stateFile, { force: true });
  }
}

function prepareRoot(root: string): void {
  mkdirSync(root, { recursive: true });
  // Every server's account passes through it to its own directory; the directories are closed to each other.
  if (isRoot) chmodSync(root, 0o711);
}

function readState(file: string): State | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as State;
  } catch {
    return undefined;
  }
}

/** Readable only by its owner, because the endpoint contains the password. */
function writeState(file: string, state: State): void {
  writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
}
