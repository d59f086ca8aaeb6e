import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Worker } from '../kratos/app/worker.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { EtcdRegistry } from '../kratos/registry/etcd.js';
import { NoServiceRegistry, ServiceRegistry } from '../kratos/registry/service-registry.js';
import { Postgres } from './postgres/postgres.js';
import type { Pooler } from './postgres/session.js';

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
  create(HealthProbe, [Postgres], (db) => ({ name: 'postgres', critical: true, check: () => db.ping() }));
});

function makeRegistry({ registry }: Config, logger: Logger, resources: Resources): ServiceRegistry {
  const { kind, endpoints, prefix, ttlMs } = registry;
  if (kind !== 'etcd') return new NoServiceRegistry();
  const etcd = new EtcdRegistry({ endpoints, prefix, ttlMs }, logger);
  resources.add('registry', () => etcd.close());
  return etcd;
}
