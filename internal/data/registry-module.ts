import { ContainerModule } from 'inversify';
import { CONFIG, type Config } from '../conf/config.js';
import { Resources } from '../kratos/app/resources.js';
import { Logger } from '../kratos/log/logger.js';
import type { Discovery } from '../kratos/registry/discovery.js';
import { EtcdRegistry } from '../kratos/registry/etcd.js';
import { NoRegistry, Registry } from '../kratos/registry/registry.js';

/** Where processes find each other. It needs CONFIG, Logger and Resources. */
export const registryModule = new ContainerModule(({ bind }) => {
  bind(Registry).toResolvedValue(openRegistry, [CONFIG, Logger, Resources]);
});

function openRegistry(config: Config, logger: Logger, resources: Resources): Registry {
  const { kind, endpoints, prefix, ttlMs } = config.registry;
  if (kind !== 'etcd') return new NoRegistry();
  const registry = new EtcdRegistry({ endpoints, prefix, ttlMs }, logger);
  resources.add('registry', () => registry.close());
  return registry;
}

/** What clients of `discovery:///<service>` ask; undefined where the registry knows of nobody. */
export function discoveryOf(registry: Registry): Discovery | undefined {
  return registry instanceof EtcdRegistry ? registry : undefined;
}
