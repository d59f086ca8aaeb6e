import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../internal/local/project.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

describe('kaimai demo', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();

  it('buys instances and goods in every way, and shows how each order ended', async () => {
    const config = { data: { rabbitmq: { queue: servers.queue('resource.instance.created') } } };
    const product = await processes.start('product', { env: servers.env(), config });
    const resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() }, config });
    const args = [
      join(projectRoot, 'dist/cmd/kaimai/main.js'),
      'demo',
      '--stock',
      '5',
      '--buyers',
      '12',
      '--timeout',
      '240',
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { ...process.env, ...servers.env(), ...product.env(), ...resource.env() },
      timeout: 280_000,
    });
    assert.match(
      stdout,
      /goods ordered +PENDING; 1 × Demo phone, black, 2 × Demo phone, white, 3 × Demo phone, red +order ORD\d+/,
    );
    assert.match(stdout, /goods delivered +paid, shipped by SF Express, receipt confirmed: COMPLETED/);
    assert.match(stdout, /purchases settled +6 orders/);
    assert.match(stdout, /payment started +http:\S+\/simulator\/pay\/\d+ /);
    assert.match(stdout, /failed instance +4900 fen paid back: CANCELLED, REFUNDED +order ORD\d+/);
    assert.match(stdout, /its unit sold again +AWAIT_PAY; cancelled +order ORD\d+/);
    assert.match(stdout, /instances running +7 COMPLETED/);
  });
});
