import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { KratosError } from '../../kratos/errors/error.js';

export interface Username {
  /** As the user writes it, in NFKC. */
  readonly name: string;
  /** The case-folded name. Names with the same key are the same name. */
  readonly key: string;
}

const MIN_LENGTH = 2;
const MAX_LENGTH = 64;
/** Some characters are folded in two steps (ẞ → ß → ss), none in three. */
const FOLDS = 2;
/** No name starts with a combining mark. Spaces, control and invisible characters would make different names look equal. */
const SHAPE = /^[\p{L}\p{N}][\p{L}\p{N}\p{M}._@+-]*$/u;

/** @throws INVALID_ARGUMENT with the field username */
export function parseUsername(input: string): Username {
  const name = input.normalize('NFKC');
  const length = [...name].length;
  if (length < MIN_LENGTH || length > MAX_LENGTH) {
    throw invalidUsername(`must have ${MIN_LENGTH} to ${MAX_LENGTH} characters`);
  }
  if (!SHAPE.test(name)) {
    throw invalidUsername('must be letters, digits and . _ - @ + only, and begin with a letter or a digit');
  }
  return { name, key: usernameKey(name) };
}

/** The key of any text. No user has the key of a text that is not a username. */
export function usernameKey(input: string): string {
  let key = input;
  for (let i = 0; i < FOLDS; i++) {
    // By way of upper case, which unites what lower case keeps apart: ß and SS, the two lower-case sigmas of Greek.
    key = key.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC');
  }
  return key;
}

function invalidUsername(description: string): KratosError {
  return invalidArgument(`username ${description}`, { violations: [{ field: 'username', description }] });
}
