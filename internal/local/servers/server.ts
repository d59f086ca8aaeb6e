import type { ManagedProcess, SpawnedProcess } from './process.js';

export const SERVER_NAMES = ['postgres', 'redis', 'rabbitmq', 'etcd'] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

export interface StartContext {
  /** The server's own directory: data, configuration, log. Exists, and belongs to its account. */
  dir: string;
  /** A port to listen on, given the standard one. */
  port(standard: number): Promise<number>;
  /** Call at once after each spawn, so that a crash of the launcher leaves no process that nobody knows. */
  spawned(child: SpawnedProcess): void;
  /** Ends waiting and starting. */
  signal: AbortSignal;
}

export interface Endpoint {
  url: string;
  /** Further addresses that tools may want, by environment variable. */
  extras: Record<string, string>;
}

/** How one kind of server is found, and started with data of its own on loopback. */
export interface ServerKind {
  name: ServerName;
  title: string;
  /** The environment variable that names a server which already runs. */
  urlVariable: string;
  aptPackages: string[];
  /** The account its package makes. */
  account: string;
  /** Where its programs are, or undefined. */
  find(): string | undefined;
  /** Starts it in ctx.dir and resolves when it serves. */
  start(programs: string, ctx: StartContext): Promise<Endpoint>;
}

export interface RunningServer extends Endpoint {
  name: ServerName;
  /** How it came to be, for people: "pid 123, data in …". */
  origin: string;
  /** What runs on this machine because of this launcher; empty for a server that was given. */
  processes: ManagedProcess[];
  /** The file to read when it misbehaves. */
  logFile: string | undefined;
  stop(): Promise<void>;
}
