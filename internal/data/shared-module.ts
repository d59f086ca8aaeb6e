import { ReadPositions } from '../biz/read-positions.js';
import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { optional, type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Worker } from '../kratos/app/worker.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { EtcdRegistry } from '../kratos/registry/etcd.js';
import { NoServiceRegistry, ServiceRegistry } from '../kratos/registry/service-registry.js';
import { Postgres } from './postgres/postgres.js';
import { PrimaryReads, ReadCounts, Reads, ReplicaReads, rememberMs } from './postgres/reads.js';
import type { Pooler } from './postgres/session.js';
import { UserPositions } from './postgres/user-positions.js';

/** Longest wait for a connection to the replica: the primary can answer as well. */
const REPLICA_CONNECT_MS = 1_000;

/** Service discovery. It needs CONFIG, Logger and Resources. */
export const registryModule: ProviderSet = providers(({ create }) => {
  create(ServiceRegistry, [CONFIG, Logger, Resources], makeRegistry);
});

/** The database, which both processes use. It needs CONFIG, Logger, Worker and Resources. */
export const sharedDataModule: ProviderSet = providers(({ resource, create }) => {
  resource(Postgres, {
    name: 'postgres',
    needs: [CONFIG, Logger, Worker, Metrics],
    make: ({ data: { database } }, logger, worker, metrics) => {
      const applicationName = `kaimai-${worker.process}-${worker.index}`;
      const db = new Postgres({ ...database, pooler: database.pooler as Pooler, applicationName }, (err) =>
        logger.warn('a connection to the database was lost', { err }),
      );
      db.observe(metrics);
      return db;
    },
    close: (db) => db.close(),
  });
  resource(Reads, {
    name: 'postgres replica',
    needs: [CONFIG, Postgres, optional(ReadPositions), Logger, Worker, Metrics],
    make: makeReads,
    open: async (reads) => reads.open(),
    close: (reads) => reads.close(),
  });
  create(HealthProbe, [Postgres], (db) => ({ name: 'postgres', critical: true, check: () => db.ping() }));
});

/** Half of the time that a statement has is left to the primary, if the replica does not answer. */
function makeReads(
  { data: { database } }: Config,
  db: Postgres,
  positions: ReadPositions | undefined,
  logger: Logger,
  worker: Worker,
  metrics: Metrics,
): Reads {
  const counts = new ReadCounts(metrics);
  if (database.replicaSource === '') return new PrimaryReads(db);
  const replica = new Postgres({
    ...database,
    source: database.replicaSource,
    target: 'standby',
    pooler: database.pooler as Pooler,
    statementTimeoutMs: database.statementTimeoutMs / 2,
    connectTimeoutMs: Math.min(database.connectTimeoutMs, REPLICA_CONNECT_MS),
    applicationName: `kaimai-${worker.process}-${worker.index}-reads`,
  });
  const users = positions && new UserPositions(positions, rememberMs(database.replicaMaxLagMs), logger);
  if (users) db.writtenFor = (userIds, position) => users.raise(userIds, position);
  const { replicaMaxLagMs: maxLagMs, replicaWaitMs: waitMs } = database;
  return new ReplicaReads(db, replica, users, { maxLagMs, waitMs }, logger, counts);
}

function makeRegistry({ registry }: Config, logger: Logger, resources: Resources): ServiceRegistry {
  const { kind, endpoints, prefix, ttlMs } = registry;
  if (kind !== 'etcd') return new NoServiceRegistry();
  const etcd = new EtcdRegistry({ endpoints, prefix, ttlMs }, logger);
  resources.add('registry', () => etcd.close());
  return etcd;
}
