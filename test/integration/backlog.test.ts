import assert from 'node:assert/strict';
import pg from 'pg';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('The backlog metrics', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();

  it('report the size and age of each background server’s backlog', async () => {
    const db = new pg.Client({ connectionString: servers.postgresUrl });
    try {
      await db.connect();
      const sinceMs = performance.now();
      // Rows of a topic without a handler wait forever.
      await db.query(`INSERT INTO outbox (topic, ref_id, payload, created_at)
        SELECT 'no.such.handler', n, '', now() - interval '90 seconds' FROM generate_series(1, 7) AS n`);
      const product = await processes.start('product', { env: servers.env() });
      const text = await eventually('the backlog is looked at', async () => {
        const metrics = await (await fetch(`http://${product.metrics}/metrics`)).text();
        const looked = ['outbox_relay"} 7', 'order_sweeper"} 0', 'seckill_consumer"} 0'];
        return looked.every((it) => metrics.includes(`kaimai_background_backlog{server="${it}\n`)) && metrics;
      });
      const age = Number(/kaimai_background_oldest_age_seconds\{server="outbox_relay"\} (\S+)/.exec(text)?.[1]);
      const latest = 90 + (performance.now() - sinceMs) / 1_000;
      assert.ok(age >= 90 && age <= latest, `the oldest is ${age} s old, not 90 to ${latest}`);
      const resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() } });
      await eventually('the resource domain looks too', async () => {
        const metrics = await (await fetch(`http://${resource.metrics}/metrics`)).text();
        return ['instance_consumer', 'instance_worker'].every((server) =>
          metrics.includes(`kaimai_background_backlog{server="${server}"} 0`),
        );
      });
      assert.match(text, /kaimai_background_errors_total\{server="seckill_consumer"\} 0/);
    } finally {
      await db.end();
    }
  });
});
