/** Replaces h2load where it is not available: unary calls by grpc-js clients. Prints its report as JSON. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, Metadata } from '@grpc/grpc-js';

interface Settings {
  readonly path: string;
  readonly target: string;
  readonly seconds: number;
  readonly perSecond?: number;
  /** Sent in turn. */
  readonly bodies: readonly string[];
  readonly connections: number;
  readonly inFlight: number;
  /** Users 1, 2, … that call in turn. */
  readonly users: number;
  /** As `name: value`. */
  readonly headers: readonly string[];
}

const settings = JSON.parse(process.argv[2] ?? '{}') as Settings;
const bodies = settings.bodies.map((body) => Buffer.from(body, 'base64'));
const identities = Array.from({ length: settings.users }, (_, i) => {
  const metadata = new Metadata();
  metadata.set('x-user-id', String(i + 1));
  for (const header of settings.headers) {
    const [name = '', value = ''] = header.split(': ');
    metadata.set(name, value);
  }
  return metadata;
});
const clients = Array.from(
  { length: settings.connections },
  () => new Client(settings.target, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 }),
);
const same = (bytes: Buffer) => bytes;
const latenciesMs: number[] = [];
let calls = 0;
let answered = 0;
const errors: Record<string, number> = {};

function call(client: Client): Promise<void> {
  const startedAt = performance.now();
  const metadata = identities[calls % identities.length]!;
  // The next body after all users had one.
  const body = bodies[Math.floor(calls++ / identities.length) % bodies.length]!;
  return new Promise((resolve) => {
    client.makeUnaryRequest(settings.path, same, same, body, metadata, (err) => {
      if (err) errors[err.message] = (errors[err.message] ?? 0) + 1;
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
process.stdout.write(JSON.stringify({ answered, errors, latenciesMs }));
