/** Generates snowflake ids: 41 bits of ms since 2024-01-01T00:00:00Z, 10 bits of worker, 12 bits of sequence. */
export abstract class IdGenerator {
  /**
   * Unique across all processes that share a database, and increasing within a process.
   * @throws UNAVAILABLE while this process has no worker number
   */
  abstract nextId(): bigint;
}
