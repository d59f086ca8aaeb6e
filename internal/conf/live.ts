import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.js';
import { loadBootstrap } from './load.js';

/** Settings that the running process takes over; the others wait for its next start. */
const LIVE = [
  'log.level',
  'server.rateLimit.',
  'seckill.backlogLimit',
  'seckill.maxDeliveries',
  'seckill.userRate.',
  'seckill.addressRate.',
  'seckill.waitingRoomLimit',
];

export interface ConfigChange {
  /** Paths that are in force now. */
  readonly applied: readonly string[];
  /** Paths that differ, and wait for the next start. */
  readonly waiting: readonly string[];
}

/** The configuration of a process and the files it comes from, which may change while it runs. */
export class LiveConfig {
  #current: Config;
  #seen: string | undefined;
  readonly #listeners: ((config: Config) => void)[] = [];

  /** @throws ConfigError */
  constructor(readonly path: string) {
    this.#seen = fingerprint(path);
    this.#current = loadBootstrap(path);
  }

  /** What is in force. Keep the object, not a value of it, where a setting may change at run time. */
  get current(): Config {
    return this.#current;
  }

  /** Calls `listener` with what is in force after each change. */
  onChange(listener: (config: Config) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Reads the files again if they have changed. Files that do not hold change nothing: what was in force stays.
   *
   * @returns what changed; undefined for nothing
   * @throws ConfigError once for each state of the files
   */
  refresh(): ConfigChange | undefined {
    const seen = fingerprint(this.path);
    // A file that is being replaced is missing for a moment.
    if (seen === undefined || seen === this.#seen) return undefined;
    this.#seen = seen;
    const next = loadBootstrap(this.path);
    const changed = differences(this.#current, next);
    if (changed.length === 0) return undefined;
    const isLive = (path: string) => LIVE.some((l) => path === l || (l.endsWith('.') && path.startsWith(l)));
    const applied = changed.filter(isLive);
    if (applied.length > 0) {
      this.#current = merge(this.#current, next, '', isLive) as Config;
      for (const listener of this.#listeners) listener(this.#current);
    }
    return { applied, waiting: changed.filter((path) => !isLive(path)) };
  }
}

/** Of the contents: times and inodes tell nothing on mounted configuration maps. */
function fingerprint(path: string): string | undefined {
  try {
    const files = statSync(path).isDirectory()
      ? readdirSync(path)
          .filter((f) => /\.ya?ml$/.test(f))
          .sort()
          .map((f) => join(path, f))
      : [path];
    const hash = createHash('sha256');
    for (const file of files) hash.update(file).update('\0').update(readFileSync(file)).update('\0');
    return hash.digest('hex');
  } catch {
    return undefined;
  }
}

type Tree = Readonly<Record<string, unknown>>;

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Paths whose values differ, in the names of the code. */
function differences(a: unknown, b: unknown, path = ''): string[] {
  if (isTree(a) && isTree(b)) {
    return Object.keys(a).flatMap((key) => differences(a[key], b[key], path === '' ? key : `${path}.${key}`));
  }
  return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
}

/** `a` with the values of `b` at the paths that `take` names. */
function merge(a: unknown, b: unknown, path: string, take: (path: string) => boolean): unknown {
  if (isTree(a) && isTree(b)) {
    const merged = Object.keys(a).map((key) => [
      key,
      merge(a[key], b[key], path === '' ? key : `${path}.${key}`, take),
    ]);
    return Object.freeze(Object.fromEntries(merged));
  }
  return take(path) ? b : a;
}
