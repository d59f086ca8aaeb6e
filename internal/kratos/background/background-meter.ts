/** Where a background server counts what it does. One per server; all of it is optional. */
export abstract class BackgroundMeter {
  /** A round ended: units of work it did, 0 for none, and how long it took. */
  abstract round(units: number, tookMs: number): void;
  /** A round failed. */
  abstract failed(): void;
  /** Units failed on their own and were set aside, so that the others could go on. */
  abstract isolated(units: number): void;
  /** What waits now: units, and the age of the oldest; 0 and 0 where nothing waits. */
  abstract backlog(units: number, oldestAgeMs: number): void;
}

/** What waits for a background server. */
export interface Backlog {
  readonly units: number;
  /** Age of the oldest that waits; 0 where nothing does. */
  readonly oldestAgeMs: number;
}

/** Looks at what waits for a background server, wherever it waits. */
export abstract class BacklogProbe {
  /** The server's name. */
  abstract readonly server: string;
  /** Counts up to a bound, so that a large backlog is not made worse by being looked at. */
  abstract read(): Promise<Backlog>;
}
