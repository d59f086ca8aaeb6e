import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { runTool } from './tool.js';

/** The machine that the figures were measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  /** Load average of the last minute before the bench started: anything above 0 is other work. */
  readonly loadBefore: number;
  readonly versions: Readonly<Record<string, string>>;
}

const VERSIONS: readonly (readonly [name: string, command: string, args: readonly string[]])[] = [
  ['PostgreSQL', 'psql', ['--version']],
  ['Redis', 'redis-server', ['--version']],
  ['Go', 'go', ['version']],
  ['h2load', 'h2load', ['--version']],
];

export async function describeMachine(): Promise<Machine> {
  const versions = await Promise.all(
    VERSIONS.map(async ([name, command, args]) => {
      const text = await runTool(command, args, { timeoutMs: 10_000 }).catch(() => '');
      return [name, /\d+\.\d+(\.\d+)?/.exec(text)?.[0] ?? 'not on PATH'] as const;
    }),
  );
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: systemName(),
    node: process.version,
    loadBefore: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    versions: Object.fromEntries(versions),
  };
}

function systemName(): string {
  try {
    const name = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
    return `${name ?? process.platform}, kernel ${release()}`;
  } catch {
    return `${process.platform} ${release()}`;
  }
}
