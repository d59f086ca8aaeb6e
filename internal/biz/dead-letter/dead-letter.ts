/** A stream entry or queue message that could not be processed, kept complete until an operator decides. */
export interface DeadLetter {
  /** `<store>-<key>`, such as `product-12`. */
  readonly id: string;
  /** The stream or queue. */
  readonly origin: string;
  /** Stream id, or SHA-256 of the message in hex. */
  readonly messageId: string;
  /** The fields of a stream entry, or the bytes of a queue message. */
  readonly content: ReadonlyMap<string, string> | Uint8Array;
  readonly reason: string;
  /** undefined where the store does not know. */
  readonly createdAt: Date | undefined;
  readonly resolvedAt: Date | undefined;
  /** What became of it; empty while it waits. */
  readonly resolution: string;
}

export interface DeadLetterFilter {
  readonly includeResolved: boolean;
  readonly limit: number;
}

/** The dead letters of one domain, by the key that the store gives them. @throws UNAVAILABLE */
export abstract class DeadLetterStore {
  /** The first part of a letter's id. */
  abstract readonly name: string;
  /** Newest first. */
  abstract list(filter: DeadLetterFilter): Promise<readonly DeadLetter[]>;
  abstract find(key: string): Promise<DeadLetter | undefined>;
  /**
   * Delivers the letter again and marks it as resolved. A repetition, also one after a crash between the two, has no
   * further effect: the consumer recognizes what it has processed.
   *
   * @returns the resolution; undefined where the letter was resolved or rejected again meanwhile
   */
  abstract replay(key: string): Promise<string | undefined>;
  /** Marks the letter as resolved without delivering it. @returns as `replay` */
  abstract drop(key: string, reason: string): Promise<string | undefined>;
}

export type Resolution =
  | { readonly kind: 'resolved'; readonly resolution: string }
  | { readonly kind: 'resolved before'; readonly resolution: string }
  /** The consumer rejected it once more, so it still waits. */
  | { readonly kind: 'rejected again'; readonly reason: string }
  | { readonly kind: 'not found' };

const ID = /^([a-z]+)-([0-9a-f]+)$/;

export class DeadLetterUsecase {
  constructor(private readonly stores: readonly DeadLetterStore[]) {}

  /** The newest first within each store; up to `limit` of each. */
  async list(filter: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    const letters: DeadLetter[] = [];
    for (const store of this.stores) letters.push(...(await store.list(filter)));
    return letters;
  }

  async find(id: string): Promise<DeadLetter | undefined> {
    const [store, key] = this.locate(id);
    return store?.find(key);
  }

  replay(id: string): Promise<Resolution> {
    return this.resolve(id, (store, key) => store.replay(key));
  }

  drop(id: string, reason: string): Promise<Resolution> {
    return this.resolve(id, (store, key) => store.drop(key, reason));
  }

  private async resolve(
    id: string,
    work: (store: DeadLetterStore, key: string) => Promise<string | undefined>,
  ): Promise<Resolution> {
    const [store, key] = this.locate(id);
    const letter = await store?.find(key);
    if (!store || !letter) return { kind: 'not found' };
    if (letter.resolvedAt) return { kind: 'resolved before', resolution: letter.resolution };
    const resolution = await work(store, key);
    if (resolution !== undefined) return { kind: 'resolved', resolution };
    const now = await store.find(key);
    if (now && !now.resolvedAt) return { kind: 'rejected again', reason: now.reason };
    return { kind: 'resolved before', resolution: now?.resolution ?? '' };
  }

  private locate(id: string): [DeadLetterStore | undefined, string] {
    const [, name, key = ''] = ID.exec(id) ?? [];
    return [this.stores.find((store) => store.name === name), key];
  }
}

/** Below every request number of admission, which counts from epoch << 32, and far above those of test data. */
const REPLAY_REQ_IDS = 1n << 31n;

/**
 * The fields under which a dead stream entry is added again.
 *
 * Its request number is the same at each replay, and an item's orders have unique request numbers: the entry becomes at
 * most one order, however often it is replayed. Its units were returned to the sale when it became a dead letter, so
 * while the sale is open it is added without its epoch: settlement then reserves the units again. A closed sale has no
 * stock to correct, and only the epoch tells that the entry belongs to it.
 */
export function replayFields(
  letter: { readonly number: bigint; readonly fields: ReadonlyMap<string, string> },
  saleIsOpen: boolean,
): ReadonlyMap<string, string> {
  const fields = new Map(letter.fields);
  if (saleIsOpen) fields.delete('epoch');
  if (!fields.has('req_id')) fields.set('req_id', String(REPLAY_REQ_IDS + letter.number));
  return fields;
}
