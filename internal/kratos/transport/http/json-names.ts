import type { DescMessage } from '@bufbuild/protobuf';
import { KratosError } from '../../errors/error.js';

/** Words that are no JSON names; a quoted map key is left alone. */
const WORDS = /"(?:[^"\\]|\\.)*"|\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b/g;

/**
 * The error with the JSON names of the request's fields (`itemId`) in place of their proto names (`item_id`): in its
 * violations, and in its message, which repeats them. Errors without violations name no fields.
 */
export function withJsonNames(err: KratosError, request: DescMessage): KratosError {
  if (err.violations.length === 0) return err;
  const names = jsonNames(request);
  const inJson = (text: string) => text.replace(WORDS, (word) => names.get(word) ?? word);
  const { metadata, retryAfterMs, cause } = err;
  const violations = err.violations.map((v) => ({ field: inJson(v.field), description: inJson(v.description) }));
  return new KratosError(err, inJson(err.message), { metadata, violations, retryAfterMs, cause });
}

const known = new WeakMap<DescMessage, ReadonlyMap<string, string>>();

/** JSON names by proto names, of all fields of a message and of the messages in it. */
function jsonNames(message: DescMessage): ReadonlyMap<string, string> {
  let names = known.get(message);
  if (!names) {
    const found = new Map<string, string>();
    const seen = new Set<DescMessage>();
    const visit = (desc: DescMessage) => {
      if (seen.has(desc)) return;
      seen.add(desc);
      for (const field of desc.fields) {
        if (field.name !== field.jsonName) found.set(field.name, field.jsonName);
        if (field.message) visit(field.message);
      }
    };
    visit(message);
    names = found;
    known.set(message, names);
  }
  return names;
}
