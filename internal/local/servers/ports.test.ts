import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { freePort, isListening, nextFreePort, returnPort, takePortsOfPart } from './ports.js';

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

  it('gives no port of another part of the range', async () => {
    const portsOf = async (part: number) => {
      const undo = takePortsOfPart(part, 2);
      const ports = await Promise.all(Array.from({ length: 50 }, freePort));
      undo();
      return ports;
    };
    const [low, high] = [await portsOf(0), await portsOf(1)];
    assert.ok(Math.max(...low) < Math.min(...high));
    assert.ok(Math.min(...low) >= 10000 && Math.max(...high) < 32768);
  });

  it('fails when no port is left', async () => {
    await assert.rejects(nextFreePort(32768), /no free port/);
  });
});
