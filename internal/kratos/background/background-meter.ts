/** Counts what a background server does. */
export abstract class BackgroundMeter {
  /** A round ended. `units` is the work it did, 0 if it found none. */
  abstract round(units: number, tookMs: number): void;
  /** A round failed. */
  abstract failed(): void;
  /** Units failed on their own and were set aside, so that the others could go on. */
  abstract isolated(units: number): void;
  /** The current backlog: waiting units and the age of the oldest; 0 and 0 if nothing is waiting. */
  abstract backlog(units: number, oldestAgeMs: number): void;
}

/** Work that is waiting for a background server. */
export interface Backlog {
  readonly units: number;
  /** Age of the oldest unit; 0 if nothing is waiting. */
  readonly oldestAgeMs: number;
}

/** Measures the backlog of a background server. */
export abstract class BacklogProbe {
  /** Name of the server. */
  abstract readonly server: string;
  /** Counts up to a bound, so that measuring a large backlog does not make it worse. */
  abstract read(): Promise<Backlog>;
}
