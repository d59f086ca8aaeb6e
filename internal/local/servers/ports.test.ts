import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { freePort, isListening, nextFreePort, returnPort } from './ports.js';

describe('ports', () => {
  it('uses the next free port if the standard one is in use', async () => {
    const standard = await freePort();
    returnPort(standard);
    const server = createServer().listen(standard, '127.0.0.1');
    await once(server, 'listening');
    assert.equal((server.address() as AddressInfo).port, standard);
    assert.equal(await isListening(standard), true);
    const next = await nextFreePort(standard);
    assert.ok(next > standard && next < 32768);
    server.close();
    await once(server, 'close');
    assert.equal(await isListening(standard), false);
    assert.equal(await nextFreePort(standard), standard);
  });

  it('never gives a port twice, and none from the ephemeral range', async () => {
    const ports = await Promise.all(Array.from({ length: 50 }, freePort));
    assert.equal(new Set(ports).size, 50);
    assert.ok(ports.every((port) => port >= 10000 && port < 32768));
    const [first] = ports;
    assert.ok(first);
    assert.notEqual(await nextFreePort(first), first);
  });

  it('fails when no port is left', async () => {
    await assert.rejects(nextFreePort(32768), /no free port/);
  });
});
