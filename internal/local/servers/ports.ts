import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';

// Linux takes the local ports of outgoing connections from 32768 up: a listener there can lose its port to a client.
const END = 32768;
const RANDOM_BEGIN = 10000;

const handedOut = new Set<number>();
let randomPorts = { begin: RANDOM_BEGIN, end: END };

/**
 * From now on `freePort` takes ports of one of `count` equal parts of its range. Processes that run side by side would
 * otherwise be given the same port now and then: it is free until the first of them listens.
 * @returns undoes it
 */
export function takePortsOfPart(part: number, count: number): () => void {
  const before = randomPorts;
  const size = Math.floor((END - RANDOM_BEGIN) / count);
  randomPorts = { begin: RANDOM_BEGIN + part * size, end: RANDOM_BEGIN + (part + 1) * size };
  return () => {
    randomPorts = before;
  };
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** The standard port if it is free, otherwise the next free one below 32768. Never the same port twice in a process. */
export async function nextFreePort(standard: number): Promise<number> {
  for (let port = standard; port < END; port++) {
    if (!handedOut.has(port) && (await isFree(port))) {
      handedOut.add(port);
      return port;
    }
  }
  throw new Error(`no free port between ${standard} and ${END}`);
}

/** Any free port on loopback below 32768. Never the same one twice in a process. */
export async function freePort(): Promise<number> {
  const { begin, end } = randomPorts;
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = randomInt(begin, end);
    if (!handedOut.has(port) && (await isFree(port))) {
      handedOut.add(port);
      return port;
    }
  }
  throw new Error(`no free port found between ${begin} and ${end}`);
}

/** Gives a port back that was handed out and will not be used, or is used no more. */
export function returnPort(port: number): void {
  handedOut.delete(port);
}

export function isListening(port: number, host = '127.0.0.1', timeoutMs = 2000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host, timeout: timeoutMs });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    socket.once('timeout', () => done(false));
    socket.once('error', () => done(false));
  });
}
