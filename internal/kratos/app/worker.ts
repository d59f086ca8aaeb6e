import { hostname } from 'node:os';

/** Which of a replica's worker processes this is. */
export class Worker {
  constructor(
    /** "product" or "resource". */
    readonly process: string,
    /** From 0. */
    readonly index: number,
    readonly count: number,
    /** What its replica is called. */
    readonly replica: string = hostname(),
  ) {}

  /** The same again after a restart. Two replicas on one host may have it in common. */
  get name(): string {
    return `${this.process}-${this.replica}-${this.index}`;
  }
}
