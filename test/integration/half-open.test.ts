import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { FaultProxy } from '../support/fault-proxy.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

const CONNECTIONS = 20;

describe('half-open connections', function () {
  this.timeout(60_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;

  before(async () => {
    product = await processes.start('product', { env: servers.env() });
  });

  it('lets go of a client that has shut its own side in the middle of a request', async () => {
    const [host = '', port] = product.http.split(':');
    const socket = connect(Number(port), host);
    socket.resume();
    // As most servers do, and as the calls behind it need: nobody is taken to be listening any more.
    socket.end('POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{');
    await once(socket, 'close');
    assert.equal((await fetch(`http://${product.http}/v1/products`)).status, 200);
  });

  it('serves others and stops in time beside peers that vanished without a word', async () => {
    const proxy = await FaultProxy.open(`http://${product.http}`);
    const grpcProxy = await FaultProxy.open(`http://${product.grpc}`);
    try {
      const sockets = Array.from({ length: CONNECTIONS }, (_, i) => {
        const socket = connect(i % 2 === 0 ? proxy.port : grpcProxy.port, '127.0.0.1');
        socket.on('error', () => {});
        // Half a request, or half of HTTP/2's first bytes; then nothing comes through any more, not even an end.
        socket.write(
          i % 2 === 0 ? 'POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{' : 'PRI * HTTP/2.0\r\n',
        );
        return socket;
      });
      await Promise.all(sockets.map((s) => once(s, 'connect')));
      proxy.swallow = true;
      grpcProxy.swallow = true;
      for (const socket of sockets) socket.destroy();
      const reply = await fetch(`http://${product.http}/v1/products`);
      assert.equal(reply.status, 200);
      assert.equal(await product.stop(), 'exited with code 0');
    } finally {
      await proxy.close();
      await grpcProxy.close();
    }
  });
});
