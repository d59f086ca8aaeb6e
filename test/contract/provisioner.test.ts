import { SimulatedProvisioner } from '../../internal/data/postgres/provisioner-simulator.js';
import { openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';
import { provisionerContract } from './provisioner.js';

describe('ports of the resource domain', () => {
  const servers = useServers('postgres');

  provisionerContract('of the simulator', async () => {
    const db = openPostgres(servers.postgresUrl, 'kaimai_resource');
    return {
      provisioner: new SimulatedProvisioner(db, { delayMs: 0, failureRate: 0, transientFailureRate: 0 }),
      exists: async (job) => {
        const { rows } = await db.pool.query(
          `SELECT FROM simulated_instances WHERE name = $1 AND instance_id = $2 AND user_id = $3 AND cpus = $4
             AND memory_mb = $5 AND gpu = $6 AND image = $7`,
          [job.name, job.instanceId, job.userId, job.size.cpus, job.size.memoryMb, job.size.gpu, job.size.image],
        );
        return rows.length === 1;
      },
      close: () => db.close(),
    };
  });
});
