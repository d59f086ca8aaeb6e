import { once } from 'node:events';
import { readFileSync, writeSync } from 'node:fs';
import { SilentLogger } from '../../log/logger.js';
import { App, STOP_SIGNALS } from '../app.js';
import { runProcess } from '../process.js';

// A process for process.test.ts. Its wiring ends when stdin does; with the argument `busy`, it blocks the event loop until then.
const busy = process.argv[2] === 'busy';
const say = (line: string) => process.stdout.write(`${line}\n`);

// Keeps the process alive, as the socket of a real server would.
const alive = setInterval(() => undefined, 1_000);
process.exitCode = await runProcess({
  name: 'fixture',
  argv: ['-conf', 'none'],
  openConfig: () => ({ current: {}, onChange: () => undefined }),
  settingsOf: () => ({
    workers: 1,
    log: { level: 'error', pretty: false },
    metricsNamespace: 'fixture',
    metricsAddr: '',
    drainDelayMs: 3_600_000,
    stopTimeoutMs: 1_000,
  }),
  wire: async () => {
    if (busy) {
      writeSync(1, 'wiring\n');
      readFileSync(0);
    } else {
      for (const signal of STOP_SIGNALS) process.on(signal, () => say('signal'));
      say('wiring');
      process.stdin.resume();
      await once(process.stdin, 'end');
    }
    return new App({
      name: 'fixture',
      logger: new SilentLogger(),
      servers: [{ name: 'a', start: async () => void say('start a'), stop: async () => undefined }],
      health: { serving: false },
      drainDelayMs: busy ? 0 : 3_600_000,
      stopTimeoutMs: 1_000,
      close: async () => void say('close'),
    });
  },
});
clearInterval(alive);
