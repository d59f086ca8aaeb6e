import assert from 'node:assert/strict';
import { isAlive } from '../../internal/local/servers/process.js';
import { TestProcesses, useProcesses } from './processes.js';
import { useServers } from './servers.js';

describe('processes for suites', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();

  it('starts, kills, restarts and stops a service', async () => {
    const product = await processes.start('product', { env: servers.env(), config: { log: { level: 'debug' } } });
    const reply = await fetch(`http://${product.metrics}/healthz`);
    assert.equal(reply.status, 200);
    await reply.body?.cancel();
    await product.kill();
    assert.equal(product.child.exit, 'ended by SIGKILL');

    const again = await product.again();
    assert.equal(again.http, product.http);
    assert.notEqual(again.pid, product.pid);
    assert.equal(await again.stop(), 'exited with code 0');
  });

  it('reports why a service does not start', async () => {
    const config = { server: { no_such_key: 1 } };
    await assert.rejects(
      processes.start('product', { env: servers.env(), config }),
      /exited with code 1(.|\n)*no_such_key/,
    );
  });

  it('leaves no process and no file behind', async () => {
    const own = new TestProcesses();
    const { child } = await own.start('product', { env: servers.env(), config: { server: { workers: '2' } } });
    await own.end();
    assert.equal(isAlive(child), false);
  });
});
