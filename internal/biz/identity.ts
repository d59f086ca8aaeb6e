import { invalidArgument } from '../../gen/common/v1/errors.js';
import { INT64_MAX } from './int64.js';

/** An INTERNAL caller is another service of the system, an ADMIN an operator. */
export type CallerRole = 'ANONYMOUS' | 'USER' | 'ADMIN' | 'INTERNAL';

export interface Identity {
  readonly role: CallerRole;
  /** UUID; undefined for a caller that does not act for a user. */
  readonly userId: string | undefined;
}

export const ANONYMOUS: Identity = { role: 'ANONYMOUS', userId: undefined };

/** Smaller than every user's id, and no user's. */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAPPED = /^00000000-0000-8(00[0-7])-8([0-9a-f]{3})-([0-9a-f]{12})$/;
const SHORT_DECIMAL = /^(0|[1-9][0-9]{0,13})$/;
const DECIMAL = /^(0|[1-9][0-9]{0,18})$/;

/** Whether the text is a UUID in canonical form, which is lower case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/**
 * The UUID of a user, from a UUID or from a decimal int64 ≥ 0. An int64 becomes a UUIDv8 whose last 48 bits are its
 * low bits and whose third and fourth groups carry the high 15 (123 → `00000000-0000-8000-8000-00000000007b`).
 *
 * @throws INVALID_ARGUMENT naming `field`
 */
export function formatUserId(input: string, field = 'user_id'): string {
  const uuid = input.toLowerCase();
  if (isUuid(uuid)) return uuid;
  // A number below 2^48 fits in the last group and needs no bigint.
  if (SHORT_DECIMAL.test(input)) return `00000000-0000-8000-8000-${Number(input).toString(16).padStart(12, '0')}`;
  const n = DECIMAL.test(input) ? BigInt(input) : undefined;
  if (n === undefined || n > INT64_MAX) {
    throw invalidArgument(`${field} must be a UUID or a decimal int64`, {
      violations: [{ field, description: 'must be a UUID or a decimal int64 of at least 0' }],
    });
  }
  return `00000000-0000-8${hex(n >> 60n, 3)}-8${hex((n >> 48n) & 0xfffn, 3)}-${hex(n & 0xffff_ffff_ffffn, 12)}`;
}

/** The int64 from which `formatUserId` made this UUID; undefined for any other UUID. */
export function parseMappedUserId(uuid: string): bigint | undefined {
  const m = MAPPED.exec(uuid);
  return m ? BigInt(`0x${m[1]}${m[2]}${m[3]}`) : undefined;
}

function hex(n: bigint, digits: number): string {
  return n.toString(16).padStart(digits, '0');
}
