/** The processes of a PostgreSQL: the one that accepts connections, and its backends. */
import { readdirSync, readFileSync } from 'node:fs';
import { type ManagedProcess, startTime } from '../../internal/local/servers/process.js';

/** @param pid of the process that accepts connections */
export function backendsOf(pid: number): ManagedProcess[] {
  const children: ManagedProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const startedAt = startTime(Number(entry));
      if (Number(parent) !== pid || startedAt === undefined) continue;
      children.push({ name: 'backend', pid: Number(entry), startedAt, stopSignal: 'SIGKILL', graceMs: 1_000 });
    } catch {
      // It has exited.
    }
  }
  return children;
}

/** SIGSTOP: its sockets stay open and nothing answers. @returns what lets it go on */
export function freeze(pid: number): () => void {
  const frozen: number[] = [];
  const stop = (one: number) => {
    signal(one, 'SIGSTOP');
    frozen.push(one);
  };
  // First, so that it starts no backend that is not seen.
  stop(pid);
  for (const backend of backendsOf(pid)) stop(backend.pid);
  return () => {
    for (const one of frozen) signal(one, 'SIGCONT');
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // A backend has ended meanwhile.
  }
}
