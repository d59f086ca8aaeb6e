import { Logger } from '../../log/logger.js';
import { App } from '../app.js';
import type { Server } from '../server.js';

// A process for app.test.ts. It prints a line for each step; the argument names what fails.
const mode = process.argv[2] ?? '';

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

class Printed extends Logger {
  override readonly debugs = true;
  override debug(): void {}
  override info(message: string, fields?: { code?: number }): void {
    if (message === 'serving') say('serving');
    if (fields?.code) say(`${message} with code ${fields.code}`);
  }
  override warn(message: string): void {
    say(message);
  }
  override error(message: string, fields?: { err?: unknown }): void {
    say(`${message}${fields?.err instanceof Error ? `: ${fields.err.message}` : ''}`);
  }
  override child(): Logger {
    return this;
  }
}

function server(name: string): Server {
  return {
    name,
    start: async (fatal) => {
      say(`start ${name}`);
      if (mode === 'start-fails' && name === 'b') throw new Error('no port');
      if (mode === 'fatal' && name === 'b') setImmediate(() => fatal(new Error('lost my database')));
      if (mode === 'rejection' && name === 'b') setImmediate(() => void Promise.reject(new Error('unhandled')));
      if (mode === 'exception' && name === 'b') {
        setImmediate(() => {
          throw new Error('thrown');
        });
      }
      if (mode === 'start-hangs' && name === 'b') await new Promise<void>(() => undefined);
    },
    drain: () => say(`drain ${name}`),
    stop: async (deadline) => {
      say(`stop ${name}`);
      if (mode === 'stop-fails' && name === 'b') throw new Error('torn');
      if (mode === 'stuck' && name === 'b') await new Promise<void>(() => undefined);
      if (mode === 'slow' && name === 'b') await new Promise((resolve) => deadline.addEventListener('abort', resolve));
    },
  };
}

// Keeps the process alive, as the socket of a real server would.
const alive = setInterval(() => undefined, 1_000);
const app = new App({
  name: 'fixture',
  logger: new Printed(),
  servers: [server('a'), server('b')],
  health: {
    set serving(value: boolean) {
      say(value ? 'ready' : 'not ready');
    },
  },
  drainDelayMs: mode === 'long-drain' ? 3_600_000 : 20,
  stopTimeoutMs: mode === 'impatient' ? 60_000 : 200,
  register: async () => say('register'),
  deregister: async () => {
    say('deregister');
    if (mode === 'impatient') await new Promise<void>(() => undefined);
  },
  close: async () => say('close'),
});
process.exitCode = await app.run();
say('left');
clearInterval(alive);
