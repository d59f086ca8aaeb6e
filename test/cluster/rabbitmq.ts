import { rmSync } from 'node:fs';
import { RabbitmqClusterProcesses } from '../../internal/local/clusters/rabbitmq-cluster.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { rabbitmq } from '../../internal/local/servers/rabbitmq.js';
import { missingProgram } from './missing.js';
import { clusterRoot } from './redis.js';

/** Starts a cluster before the suite's tests, or skips them where RabbitMQ is not installed, and stops it after them. */
export function useRabbitmqCluster(): () => RabbitmqClusterProcesses {
  let root: string;
  let cluster: RabbitmqClusterProcesses | undefined;
  before('a RabbitMQ cluster', async function () {
    if (rabbitmq.find() === undefined) missingProgram(this, 'rabbitmq-server');
    root = clusterRoot('rabbitmq');
    cluster = await RabbitmqClusterProcesses.start({ root, port: freePort });
  });
  after(async () => {
    await cluster?.stop();
    if (root) rmSync(root, { recursive: true, force: true });
  });
  return () => cluster!;
}
