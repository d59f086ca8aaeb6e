import type { ServiceInstance } from './service-registry.js';

/** What is known of a service's instances; an error only while nothing was ever known. */
export type Instances =
  | { readonly kind: 'known'; readonly instances: readonly ServiceInstance[] }
  | { readonly kind: 'unknown'; readonly error: string };

/** Finds the instances of a service. */
export interface Discovery {
  /**
   * Calls `listener` with what is known, never before it returns, and again when that changes. Once there were instances
   * there always are: an empty answer, or none, leaves the last ones standing. The result ends it.
   */
  watch(name: string, listener: (found: Instances) => void): () => void;
}
