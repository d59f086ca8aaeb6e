import type { ManagedProcess, SpawnedProcess } from './process.js';

export const SERVER_NAMES = ['postgres', 'redis', 'rabbitmq', 'etcd'] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

export interface StartContext {
  /** The server's own directory: data, configuration, log. Exists, and belongs to its account. */
  dir: string;
  /** A port to listen on, given the standard one. */
  port(standard: number): Promise<number>;
  /** Call right after each spawn, so that every process is on record when the launcher crashes. */
  spawned(child: SpawnedProcess): void;
  signal: AbortSignal;
}

export interface Endpoint {
  url: string;
  /** Further addresses for tools, by environment variable. */
  extras: Record<string, string>;
}

/** How one kind of server is found, and started with data of its own on loopback. */
export interface ServerKind {
  name: ServerName;
  title: string;
  /** The environment variable that names a server to use instead. */
  urlVariable: string;
  aptPackages: string[];
  /** The account that its package creates. */
  account: string;
  /** Where its programs are; undefined when they are not installed. */
  find(): string | undefined;
  /** Starts it in ctx.dir and resolves when it serves. */
  start(programs: string, ctx: StartContext): Promise<Endpoint>;
}

export interface RunningServer extends Endpoint {
  name: ServerName;
  /** Where it comes from, for people: "pid 123, data in …". */
  origin: string;
  /** The processes that this launcher started for it; empty for a given server or a container. */
  readonly processes: readonly ManagedProcess[];
  logFile: string | undefined;
  /** Starts it again with its data at the same addresses. Only for servers with processes: Docker restarts containers. */
  restart?(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}
