/** The package has no types of its own. */
declare module 'cluster-key-slot' {
  /** The slot of a Redis Cluster that a key is in; of a hash tag, without its braces, that of all keys with it. */
  export default function calculateSlot(key: string): number;
}
