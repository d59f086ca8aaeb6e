import type { ServiceInstance } from './service-registry.js';

/** The instances of a service; `unknown` only until some are known for the first time. */
export type Instances =
  | { readonly kind: 'known'; readonly instances: readonly ServiceInstance[] }
  | { readonly kind: 'unknown'; readonly error: string };

/** Finds the instances of a service. */
export interface Discovery {
  /**
   * Calls `listener` with the instances, never before this method returns, and again whenever they change. Once there
   * were instances, an empty or a missing answer of the registry leaves the last ones in use.
   * @returns a function that ends the watch
   */
  watch(name: string, listener: (found: Instances) => void): () => void;
}
