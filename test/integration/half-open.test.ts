import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { FaultProxy } from '../support/fault-proxy.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

const CONNECTIONS = 20;

describe('The product process with half-open connections', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;

  before(async () => {
    product = await processes.start('product', { env: servers.env() });
  });

  it('closes the connection of a client that half-closes it during a request', async () => {
    const [host = '', port] = product.http.split(':');
    const socket = connect(Number(port), host);
    socket.resume();
    // Like most servers: a client that has shut down its side counts as disconnected, and its calls are aborted.
    socket.end('POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{');
    await once(socket, 'close');
    assert.equal((await fetch(`http://${product.http}/v1/products`)).status, 200);
  });

  it('serves other clients and stops in time despite peers that vanished', async () => {
    const proxy = await FaultProxy.open(`http://${product.http}`);
    const grpcProxy = await FaultProxy.open(`http://${product.grpc}`);
    try {
      const sockets = Array.from({ length: CONNECTIONS }, (_, i) => {
        const socket = connect(i % 2 === 0 ? proxy.port : grpcProxy.port, '127.0.0.1');
        socket.on('error', () => {});
        // Half a request, or half of the HTTP/2 preface; then no packets arrive any more, not even FIN.
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
