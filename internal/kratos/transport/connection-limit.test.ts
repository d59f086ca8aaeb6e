import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { ClientAddresses } from './client-address.js';
import { ConnectionLimit } from './connection-limit.js';

describe('ConnectionLimit', () => {
  let server: Server;
  const sockets: Socket[] = [];

  async function listen(max: number, maxPerAddress: number, proxies: string[] = []): Promise<void> {
    server = createServer((socket) => socket.write('welcome'));
    new ConnectionLimit({ max, maxPerAddress }, new ClientAddresses(proxies)).attach(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  /** @returns whether the connection was accepted */
  async function open(): Promise<boolean> {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    return Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
  }

  it('closes connections of an address beyond its limit, until others of it end', async () => {
    await listen(10, 2);
    assert.deepEqual([await open(), await open(), await open()], [true, true, false]);
    sockets[0]?.destroy();
    while (server.listening && (await connections()) > 1) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(await open(), true);
  });

  it('closes connections beyond the limit of the process', async () => {
    await listen(2, 10);
    assert.deepEqual([await open(), await open(), await open()], [true, true, false]);
  });

  it('does not limit trusted proxies, which connect for many clients', async () => {
    await listen(10, 1, ['127.0.0.1']);
    assert.deepEqual([await open(), await open(), await open()], [true, true, true]);
  });

  function connections(): Promise<number> {
    return new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
  }
});
