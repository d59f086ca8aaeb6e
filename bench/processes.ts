/** CPU time and memory of processes, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';

export const COUNTS = process.platform === 'linux';
const PAGE_BYTES = 4_096;
/** Linux reports CPU time to programs in hundredths of a second, independent of the kernel's tick. */
const TICKS_PER_SECOND = 100;

/** Resident bytes of a process and its children. */
export function memoryOf(pid: number): number {
  return sum(pid, (folder) => Number(readFileSync(`${folder}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES);
}

/** CPU seconds that a process and its children have used. */
export function cpuSecondsOf(pid: number): number {
  return sum(pid, (folder) => {
    const fields = statOf(folder);
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  });
}

function sum(pid: number, of: (folder: string) => number): number {
  let total = 0;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const folder = `/proc/${entry}`;
      if (Number(entry) === pid || Number(statOf(folder)[1]) === pid) total += of(folder);
    } catch {
      // The process has exited.
    }
  }
  return total;
}

/** The fields after the command, which is in parentheses and may contain any character. */
function statOf(folder: string): string[] {
  const stat = readFileSync(`${folder}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
