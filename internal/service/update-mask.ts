import { invalidArgument } from '../../gen/common/v1/errors.js';

/** A field of an update request. */
interface MaskedField<T> {
  /** Its proto name, as update masks have it. */
  readonly path: string;
  /** undefined: the request has no value for it. */
  readonly given: T | undefined;
  /** The value that it gets if the mask lists it without a value; absent: it cannot be cleared. */
  readonly cleared?: T;
}

/** Fields that identify what is updated; an inferred mask lists them too. */
const KEYS = new Set(['id', 'item_id', 'version']);

/**
 * The patch that an update request asks for: with a mask the fields it lists, without one the fields that are given.
 * @throws INVALID_ARGUMENT if the mask lists an unknown field, or one that has no value and cannot be cleared
 */
export function patchOf<P extends object>(
  mask: readonly string[] | undefined,
  fields: { readonly [K in keyof P]-?: MaskedField<P[K]> },
): Partial<P> {
  const entries = Object.entries(fields) as [keyof P, MaskedField<P[keyof P]>][];
  const listed = new Set((mask ?? []).filter((path) => !KEYS.has(path)));
  for (const path of listed) {
    if (!entries.some(([, field]) => field.path === path)) throw maskViolation(`${path} cannot be updated`);
  }
  const patch: Partial<P> = {};
  for (const [name, { path, given, cleared }] of entries) {
    if (listed.size > 0 && !listed.has(path)) continue;
    const value = given ?? (listed.has(path) ? cleared : undefined);
    if (value !== undefined) patch[name] = value;
    else if (listed.has(path)) throw maskViolation(`${path} has no value and cannot be cleared`);
  }
  return patch;
}

function maskViolation(description: string) {
  return invalidArgument(`update_mask: ${description}`, { violations: [{ field: 'update_mask', description }] });
}
