import cluster from 'node:cluster';
import { AggregatorRegistry, collectDefaultMetrics, Registry } from 'prom-client';
import { type Token, token } from './token.js';

/** The process's metrics. It is a token because prom-client's class is generic. */
export const METRICS: Token<Registry> = token('Metrics');

/** The Prometheus registry of this process. Those of worker processes are collected by their primary. */
export function metricsRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  if (cluster.isWorker) {
    AggregatorRegistry.setRegistries(registry);
    // Its constructor makes a worker answer the primary's requests for metrics.
    new AggregatorRegistry();
  }
  return registry;
}
