import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { projectRoot } from '../project.js';
import { isRoot } from './account.js';
import { findProgram } from './binaries.js';

const TIMEOUT_MS = 15 * 60_000;
const KEPT_LINES = 25;

/** Whether packages can be installed here: Debian or Ubuntu, as root. */
export function aptIsUsable(): boolean {
  return isRoot && findProgram('apt-get') !== undefined && findProgram('dpkg-query') !== undefined;
}

/**
 * Installs packages. Runs in a session of its own, since Ctrl-C in the middle of dpkg leaves packages half configured:
 * on abort the script is told, and ends at the next point where that is safe.
 */
export async function aptInstall(
  packages: string[],
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  const script = join(projectRoot, 'internal/local/servers/apt-install.sh');
  const child = spawn('/bin/bash', [script, ...packages], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const lastLines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      if (line.trim() === '') return;
      lastLines.push(line);
      if (lastLines.length > KEPT_LINES) lastLines.shift();
      onLine(line);
    });
  }
  const interrupt = () => {
    child.kill('SIGINT');
  };
  const timer = setTimeout(interrupt, TIMEOUT_MS);
  signal.addEventListener('abort', interrupt, { once: true });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    signal.throwIfAborted();
    if (code !== 0) {
      throw new Error(`apt could not install ${packages.join(' ')} (code ${code}):\n${lastLines.join('\n')}`);
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', interrupt);
  }
}
