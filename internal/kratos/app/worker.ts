import { hostname } from 'node:os';

/** Which of a replica's worker processes this is. */
export class Worker {
  constructor(
    /** "product" or "resource". */
    readonly process: string,
    /** From 0. */
    readonly index: number,
    readonly count: number,
    readonly host: string = hostname(),
  ) {}

  /** The same again after a restart, and no other worker's: a consumer finds what it left unfinished by it. */
  get consumerName(): string {
    return `${this.process}-${this.host}-${this.index}`;
  }
}
