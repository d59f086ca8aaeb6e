import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { connectToRedis } from './redis-connection.js';

/** A server that answers each command, given in lower case, with what `reply` returns; undefined closes the connection. */
async function fakeRedis(reply: (command: string) => string | undefined): Promise<Server> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => {
      for (const [, text = ''] of data.toString().matchAll(/\*\d+\r\n((?:\$\d+\r\n[^\r]*\r\n)+)/g)) {
        const command = text
          .replace(/\$\d+\r\n/g, '')
          .trim()
          .replaceAll('\r\n', ' ')
          .toLowerCase();
        const answer = reply(command);
        if (answer === undefined) socket.destroy();
        else socket.write(answer);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const portOf = (server: Server) => (server.address() as { port: number }).port;
const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`;

describe('A connection to a Redis cluster', () => {
  it('fails a command whose server is lost after ASK, and nothing else', async () => {
    const asked: string[] = [];
    const target = await fakeRedis((command) => {
      asked.push(command);
      return command === 'asking' ? undefined : '+OK\r\n';
    });
    const source: Server = await fakeRedis((command) => {
      if (command === 'cluster slots') {
        return `*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n${bulk('127.0.0.1')}:${portOf(source)}\r\n`;
      }
      if (command === 'cluster info') return bulk('cluster_state:ok');
      if (command.startsWith('get ')) return `-ASK 0 127.0.0.1:${portOf(target)}\r\n`;
      return '+OK\r\n';
    });
    const unhandled: unknown[] = [];
    const onUnhandled = (err: unknown) => unhandled.push(err);
    const listeners = process.rawListeners('unhandledRejection') as ((err: unknown) => void)[];
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', onUnhandled);
    const nodes = [`127.0.0.1:${portOf(source)}`];
    const cluster = connectToRedis({ addr: '', nodes }, { enableReadyCheck: false, connectTimeout: 5_000 });
    cluster.on('error', () => {});
    try {
      await new Promise<void>((resolve) => cluster.once('ready', () => resolve()));
      await assert.rejects(cluster.get('key'), /Connection is closed|redirections/);
      await new Promise(setImmediate);
      assert.ok(asked.includes('asking'), asked.join(', '));
      assert.deepEqual(unhandled, []);
    } finally {
      cluster.disconnect();
      process.removeListener('unhandledRejection', onUnhandled);
      for (const listener of listeners) process.on('unhandledRejection', listener);
      source.close();
      target.close();
    }
  });
});

/** In a thread of its own: answers OK to all commands but GETDEL, also while the thread of the test is paused. */
const OTHER_THREAD = `
const { parentPort, workerData } = require('node:worker_threads');
const server = require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (data) => {
    for (const [command] of data.toString().matchAll(/\\*\\d+\\r\\n(\\$\\d+\\r\\n[^\\r]*\\r\\n)+/g)) {
      if (!/getdel/i.test(command)) socket.write('+OK\\r\\n');
      if (/\\nget\\r/i.test(command)) {
        Atomics.store(workerData, 0, 1);
        Atomics.notify(workerData, 0);
      }
    }
  });
});
server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;
const LIMIT_MS = 50;

describe('The time limit of a command', () => {
  let thread: Worker;
  /** 1 once the other thread has answered GET. */
  const answered = new Int32Array(new SharedArrayBuffer(4));
  let redis: ReturnType<typeof connectToRedis>;

  before(async () => {
    thread = new Worker(OTHER_THREAD, { eval: true, workerData: answered });
    const [port] = (await once(thread, 'message')) as [number];
    redis = connectToRedis({ addr: `127.0.0.1:${port}` }, { enableReadyCheck: false, commandTimeout: LIMIT_MS });
    await once(redis, 'ready');
  });

  after(async () => {
    redis.disconnect();
    await thread.terminate();
  });

  it('does not fail a command whose reply came while the process was paused', async () => {
    const reply = redis.get('key');
    Atomics.wait(answered, 0, 0, 60_000);
    Atomics.wait(answered, 0, 1, 4 * LIMIT_MS);
    assert.equal(await reply, 'OK');
  });

  it('fails a command that gets no reply', async () => {
    await assert.rejects(redis.getdel('key'), /^Error: Command timed out$/);
  });
});
