import { ContainerModule } from 'inversify';
import { Logger } from '../biz/logger.js';
import { NoRegistry, Registry } from '../biz/registry.js';
import { Resources } from '../biz/resources.js';
import { CONFIG, type Config } from '../conf/config.js';
import type { Discovery } from './discovery.js';
import { EtcdRegistry } from './registry-etcd.js';

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
