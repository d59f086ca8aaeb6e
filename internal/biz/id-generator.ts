/** Makes snowflake ids: 41 bits of ms since 2024-01-01T00:00:00Z, 10 bits of worker, 12 bits of sequence. */
export abstract class IdGenerator {
  /**
   * Unique over all processes that share a database, and growing within one.
   * @throws UNAVAILABLE while this process holds no worker number
   */
  abstract nextId(): bigint;
}
