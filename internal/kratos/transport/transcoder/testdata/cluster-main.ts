import cluster from 'node:cluster';
import { messageType, serve, wire } from './library.js';

/**
 * Two workers on one port that reply with their process id; stops on SIGTERM. Prints the port when both are listening.
 */
const WORKERS = 2;

if (cluster.isPrimary) {
  let listening = 0;
  cluster.on('listening', (_worker, address) => {
    if (++listening === WORKERS) process.stdout.write(`${address.port}\n`);
  });
  for (let i = 0; i < WORKERS; i++) cluster.fork();
  process.once('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill('SIGTERM');
  });
} else {
  const message = wire(messageType('Book'), { title: String(process.pid) });
  const { stop } = await serve({ handler: async () => ({ kind: 'unary', message }) });
  process.once('SIGTERM', async () => {
    await stop();
    process.disconnect?.();
  });
}
