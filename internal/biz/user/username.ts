import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { KaimaiError } from '../../kratos/errors/error.js';

export interface Username {
  /** In NFKC, as its user writes it. */
  readonly name: string;
  /** What makes two names one: the name without its case. */
  readonly key: string;
}

const MIN_LENGTH = 2;
const MAX_LENGTH = 64;
/** Some signs are folded in two steps (ẞ → ß → ss); none needs a third. */
const FOLDS = 2;
/** A mark belongs to the letter before it; space, controls and what is not seen would let one name pass for another. */
const SHAPE = /^[\p{L}\p{N}][\p{L}\p{N}\p{M}._@+-]*$/u;

/** @throws INVALID_ARGUMENT naming username */
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

/** The key of any text, also of one that is no username: nobody has that key. */
export function usernameKey(input: string): string {
  let key = input;
  for (let i = 0; i < FOLDS; i++) {
    // By way of the upper case, in which what lower case keeps apart is one: ß and SS, the two sigmas of Greek.
    key = key.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC');
  }
  return key;
}

function invalidUsername(description: string): KaimaiError {
  return invalidArgument(`username ${description}`, { violations: [{ field: 'username', description }] });
}
