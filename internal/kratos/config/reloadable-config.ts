import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type ConfigSpec, loadConfig } from './load-config.js';

export interface ConfigChange {
  /** Paths of settings that have changed in the running process. */
  readonly applied: readonly string[];
  /** Paths of settings whose change applies at the next start. */
  readonly waiting: readonly string[];
}

/** A configuration and the files it comes from, which may change while the process runs. */
export class ReloadableConfig<T> {
  private config: T;
  private loadedFingerprint: string | undefined;
  private readonly listeners: ((config: T) => void)[] = [];

  /** @throws ConfigError */
  constructor(
    private readonly path: string,
    private readonly spec: ConfigSpec<T>,
  ) {
    this.loadedFingerprint = fingerprint(path);
    this.config = loadConfig(path, spec);
  }

  /** The settings in force. Keep this object, not a value of it, where a setting may change at run time. */
  get current(): T {
    return this.config;
  }

  /** Calls `listener` with the settings in force after each change. */
  onChange(listener: (config: T) => void): void {
    this.listeners.push(listener);
  }

  /**
   * Reads the files again if they have changed. An invalid configuration changes nothing.
   *
   * @returns undefined if nothing has changed
   * @throws ConfigError once for each state of the files
   */
  refresh(): ConfigChange | undefined {
    const found = fingerprint(this.path);
    // A file that is being replaced is missing for a moment.
    if (found === undefined || found === this.loadedFingerprint) return undefined;
    this.loadedFingerprint = found;
    const next = loadConfig(this.path, this.spec);
    const changed = differences(this.config, next);
    if (changed.length === 0) return undefined;
    const isLive = (path: string) => this.spec.live.some((l) => path === l || (l.endsWith('.') && path.startsWith(l)));
    const applied = changed.filter(isLive);
    if (applied.length > 0) {
      this.config = merge(this.config, next, '', isLive) as T;
      for (const listener of this.listeners) listener(this.config);
    }
    return { applied, waiting: changed.filter((path) => !isLive(path)) };
  }
}

/** Hash of the contents: modification times and inodes mean nothing on mounted configuration maps. */
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

/** Paths whose values differ, as the code names them. */
function differences(a: unknown, b: unknown, path = ''): string[] {
  if (isTree(a) && isTree(b)) {
    return Object.keys(a).flatMap((key) => differences(a[key], b[key], path === '' ? key : `${path}.${key}`));
  }
  return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
}

/** `a` with the values of `b` at the paths that `take` accepts. */
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
