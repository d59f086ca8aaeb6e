import { IdGenerator } from '../../../internal/biz/id-generator.js';

/** Generates consecutive ids. */
export class CountingIds extends IdGenerator {
  private last: bigint;

  constructor(first = 1n) {
    super();
    this.last = first - 1n;
  }

  override nextId(): bigint {
    return ++this.last;
  }
}
