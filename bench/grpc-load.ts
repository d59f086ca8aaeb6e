/** Replaces h2load where it is not available: unary calls by grpc-js clients. Prints its report as JSON. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, Metadata } from '@grpc/grpc-js';

interface Settings {
  readonly path: string;
  readonly target: string;
  readonly seconds: number;
  readonly perSecond?: number;
  readonly body: string;
  readonly connections: number;
  readonly inFlight: number;
  readonly user: string;
  /** As `name: value`. */
  readonly headers: readonly string[];
}

const settings = JSON.parse(process.argv[2] ?? '{}') as Settings;
const body = Buffer.from(settings.body, 'base64');
const metadata = new Metadata();
metadata.set('x-user-id', settings.user);
for (const header of settings.headers) {
  const [name = '', value = ''] = header.split(': ');
  metadata.set(name, value);
}
const clients = Array.from(
  { length: settings.connections },
  () => new Client(settings.target, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 }),
);
const same = (bytes: Buffer) => bytes;
const latenciesMs: number[] = [];
let answered = 0;
let failed = 0;

function call(client: Client): Promise<void> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    client.makeUnaryRequest(settings.path, same, same, body, metadata, (err) => {
      if (err) failed += 1;
      else answered += 1;
      if (settings.perSecond !== undefined && !err) latenciesMs.push(performance.now() - startedAt);
      resolve();
    });
  });
}

const endAt = performance.now() + settings.seconds * 1_000;
const everyMs = settings.perSecond === undefined ? 0 : (1_000 * settings.inFlight) / settings.perSecond;

async function caller(client: Client): Promise<void> {
  while (performance.now() < endAt) {
    const nextAt = performance.now() + everyMs;
    await call(client);
    if (everyMs > 0) await sleep(Math.max(0, nextAt - performance.now()));
  }
}

await Promise.all(Array.from({ length: settings.inFlight }, (_, i) => caller(clients[i % clients.length]!)));
for (const client of clients) client.close();
process.stdout.write(JSON.stringify({ answered, failed, latenciesMs }));
