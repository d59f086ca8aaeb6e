import { createHash } from 'node:crypto';
import { invalidArgument } from '../../gen/common/v1/errors.js';

/** A page of a list that goes on after its last item. */
export interface TokenPage<T> {
  readonly items: readonly T[];
  /** Continues the list; empty: this is the last page. */
  readonly nextPageToken: string;
}

const ID_BYTES = 8;
const CHECK_BYTES = 8;

/*
 * A page token is the id of the last item that was shown, with a checksum over the id and the list: its name and filters.
 * A token of another list, or a damaged one, is refused instead of showing a page of something else. It grants nothing, so
 * it needs no secret.
 */

/** @param list names the list and its filters; in a fixed order, without the page size */
export function encodePageToken(list: object, lastId: bigint): string {
  const id = Buffer.alloc(ID_BYTES);
  id.writeBigInt64BE(lastId);
  return Buffer.concat([id, checksum(list, id)]).toString('base64url');
}

/**
 * @returns the id of the last item that was shown; undefined for an empty token: the list begins
 * @throws INVALID_ARGUMENT page_token, when it is not a token of this list
 */
export function decodePageToken(list: object, token: string): bigint | undefined {
  if (token === '') return undefined;
  const bytes = Buffer.from(token, 'base64url');
  const id = bytes.subarray(0, ID_BYTES);
  // Decoding ignores what is not base64, so the text itself is compared as well.
  const genuine = bytes.length === ID_BYTES + CHECK_BYTES && bytes.subarray(ID_BYTES).equals(checksum(list, id));
  if (genuine && bytes.toString('base64url') === token) return id.readBigInt64BE();
  throw invalidArgument('the page token does not belong to this list', {
    violations: [{ field: 'page_token', description: 'must be the next_page_token of the same list' }],
  });
}

/** @param found up to one item more than the page has: it tells that there is another page */
export function tokenPage<T extends { readonly id: bigint }>(
  list: object,
  limit: number,
  found: readonly T[],
): TokenPage<T> {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return { items, nextPageToken: found.length > limit && last ? encodePageToken(list, last.id) : '' };
}

function checksum(list: object, id: Buffer): Buffer {
  const text = JSON.stringify(list, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value));
  return createHash('sha256').update(text).update(id).digest().subarray(0, CHECK_BYTES);
}
