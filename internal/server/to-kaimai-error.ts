import { internal, invalidArgument } from '../../gen/common/v1/errors.js';
import { KaimaiError } from '../errors/error.js';
import { TranscodeError } from './transcoder/transcoder.js';

/** Any thrown value as the one error type. What nobody foresaw becomes INTERNAL, its cause for the log alone. */
export function toKaimaiError(err: unknown): KaimaiError {
  if (err instanceof KaimaiError) return err;
  if (err instanceof TranscodeError) {
    return invalidArgument(err.message, { violations: err.fieldViolations, metadata: err.metadata ?? {} });
  }
  // An aborted wait ends with the reason that the call was given up for.
  if (err instanceof Error && err.name === 'AbortError' && err.cause instanceof KaimaiError) return err.cause;
  return internal('internal error', { cause: err });
}
