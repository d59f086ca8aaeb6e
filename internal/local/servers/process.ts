import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Account } from './account.js';

/** A process that can be found again after a crash of its starter: a pid alone may have been given to another. */
export interface ProcessId {
  pid: number;
  /** When the kernel started it, in a form that never repeats for the same pid. */
  startedAt: string;
}

export interface ManagedProcess extends ProcessId {
  name: string;
  stopSignal: NodeJS.Signals;
  /** How long it may take to end by its stop signal before it is killed. */
  graceMs: number;
}

export interface SpawnOptions {
  name: string;
  command: string;
  args: string[];
  env: Record<string, string>;
  cwd: string;
  /** Receives stdout and stderr. */
  logFile: string;
  account: Account | undefined;
  stopSignal: NodeJS.Signals;
  graceMs: number;
  /** Keeps stdin open for `SpawnedProcess.send`. */
  stdin?: 'open';
}

export interface SpawnedProcess extends ManagedProcess {
  /** Writes a line to its stdin, if that is open. */
  send(line: string): void;
  /** How it ended, once it has. */
  exit: string | undefined;
}

const LARGE_LOG_BYTES = 16 * 1024 * 1024;

/** What tells this pid's process from every other that had or will have the same pid; undefined when it is gone. */
export function startTime(pid: number): string | undefined {
  if (process.platform !== 'linux') {
    try {
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined;
    } catch {
      return undefined;
    }
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${bootId}/${fields[19]}`;
  } catch {
    return undefined;
  }
}

export function isAlive(id: ProcessId): boolean {
  return startTime(id.pid) === id.startedAt;
}

/**
 * Starts a process in a session of its own: Ctrl-C reaches the launcher's whole process group, and the servers must
 * outlive their clients by a moment. Does not keep this process alive.
 */
export function spawnProcess(options: SpawnOptions): SpawnedProcess {
  rotateLog(options.logFile);
  const log = openSync(options.logFile, 'a', 0o640);
  try {
    const child = spawn(options.command, options.args, {
      cwd: options.cwd,
      env: options.env,
      stdio: [options.stdin === 'open' ? 'pipe' : 'ignore', log, log],
      detached: true,
      ...(options.account && { uid: options.account.uid, gid: options.account.gid }),
    });
    const { pid } = child;
    const spawned: SpawnedProcess = {
      name: options.name,
      pid: pid ?? 0,
      startedAt: (pid && startTime(pid)) || '',
      stopSignal: options.stopSignal,
      graceMs: options.graceMs,
      exit: undefined,
      send: (line) => void child.stdin?.write(`${line}\n`),
    };
    // A process that has ended reads nothing.
    child.stdin?.on('error', () => {});
    (child.stdin as Socket | null)?.unref();
    child.once('error', (error) => {
      spawned.exit = `could not start ${options.command}: ${error.message}`;
    });
    child.once('exit', (code, signal) => {
      spawned.exit = signal ? `ended by ${signal}` : `exited with code ${code}`;
    });
    child.unref();
    return spawned;
  } finally {
    closeSync(log);
  }
}

function rotateLog(file: string): void {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LARGE_LOG_BYTES) renameSync(file, `${file}.old`);
}

export function tail(file: string, lines = 15): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}

/** Resolves once the condition holds; fails when it does not in time, on abort, or as soon as it throws. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal },
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    signal?.throwIfAborted();
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await sleep(25);
  }
}

/** Like {@link until}, for a process that was just spawned: fails with the end of its log if it ends or is too slow. */
export async function untilReady(
  child: SpawnedProcess,
  logFile: string,
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  const describe = () => `The end of its log (${logFile}):\n${tail(logFile)}`;
  try {
    await until(
      `${child.name} did not get ready`,
      async () => {
        if (await condition()) return true;
        if (child.exit !== undefined) throw new Error(`${child.name} ${child.exit}`);
        return false;
      },
      options,
    );
  } catch (cause) {
    if (options.signal.aborted) throw cause;
    throw new Error(`${errorText(cause)}. ${describe()}`, { cause });
  }
}

function signalProcess(id: ProcessId, signal: NodeJS.Signals, wholeGroup: boolean): void {
  if (!isAlive(id)) return;
  try {
    process.kill(wholeGroup ? -id.pid : id.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Stops by signal, then by SIGKILL to the process group. Resolves when the process is gone. */
export async function stopProcess(managed: ManagedProcess): Promise<void> {
  signalProcess(managed, managed.stopSignal, false);
  const gone = () => !isAlive(managed);
  try {
    await until(managed.name, gone, { timeoutMs: managed.graceMs });
  } catch {
    signalProcess(managed, 'SIGKILL', true);
    await until(`${managed.name} (pid ${managed.pid}) survives SIGKILL`, gone, { timeoutMs: 10_000 });
  }
}

/** For the last moment of this process, where nothing can be awaited. */
export function killProcessNow(managed: ManagedProcess): void {
  signalProcess(managed, 'SIGKILL', true);
}
