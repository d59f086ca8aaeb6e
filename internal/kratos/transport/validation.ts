import { create, type DescMessage, type DescMethod, fromBinary, hasOption, type Registry } from '@bufbuild/protobuf';
import { isReflectMessage, pathToString, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { createValidator } from '@bufbuild/protovalidate';
import type { FieldViolation } from '../errors/error.js';
import { invalidArgument } from '../errors/reasons.js';
import { quickRules } from './quick-rules.js';

/**
 * Returns the check of a method's requests, which takes a request in wire form and decoded; undefined if there are no
 * rules. The check throws INVALID_ARGUMENT with the violations.
 */
export type RequestRules = (method: DescMethod) => ((bytes: Uint8Array, request: unknown) => void) | undefined;

/** Checks requests against the buf.validate rules of their protos. Rules that do not compile fail the boot. */
export function validation(registry: Registry): RequestRules {
  const validator = createValidator({ registry });
  const extensions = ['field', 'message', 'oneof'].map((n) => registry.getExtension(`buf.validate.${n}`));
  const [fieldRules, messageRules, oneofRules] = extensions;
  if (!fieldRules || !messageRules || !oneofRules) throw new Error('buf/validate is not among the descriptors');

  const hasRules = (message: DescMessage, seen = new Set<DescMessage>()): boolean => {
    if (seen.has(message)) return false;
    seen.add(message);
    return (
      hasOption(message, messageRules) ||
      message.oneofs.some((o) => hasOption(o, oneofRules)) ||
      message.fields.some((f) => hasOption(f, fieldRules) || (f.message !== undefined && hasRules(f.message, seen)))
    );
  };

  return ({ input }) => {
    if (!hasRules(input)) return undefined;
    const compiled = validator.validate(input, create(input));
    if (compiled.kind === 'error') throw compiled.error;
    const check = (bytes: Uint8Array) => {
      let message: ReturnType<typeof create>;
      try {
        message = fromBinary(input, bytes);
      } catch (err) {
        throw invalidArgument(`the request is not a valid ${input.typeName}`, { cause: err });
      }
      // Text with a NUL passes every rule, but PostgreSQL refuses it. Most requests contain no zero byte at all.
      const nul = bytes.includes(0) ? fieldWithNul(reflect(input, message), '') : undefined;
      if (nul !== undefined) {
        const description = 'must not contain a NUL character';
        throw invalidArgument(`${nul}: ${description}`, { violations: [{ field: nul, description }] });
      }
      const result = validator.validate(input, message);
      if (result.kind === 'error') throw result.error;
      if (result.kind === 'invalid') {
        const violations = result.violations.map<FieldViolation>((v) => ({
          field: pathToString(v.field),
          description: v.message,
        }));
        const [first] = violations;
        throw invalidArgument(first ? `${first.field ? `${first.field}: ` : ''}${first.description}` : 'invalid', {
          violations,
        });
      }
    };
    const quick = quickRules(input, fieldRules, hasRules);
    if (!quick) return check;
    return (bytes, request) => {
      if (bytes.includes(0) || !quick(request as Readonly<Record<string, unknown>>)) check(bytes);
    };
  };
}

/** Path of the first text in the message that contains a NUL. */
function fieldWithNul(message: ReflectMessage, prefix: string): string | undefined {
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    const path = `${prefix}${field.name}`;
    let found: string | undefined;
    if (field.fieldKind === 'list') {
      let i = 0;
      for (const item of message.get(field)) found ??= inValue(item, `${path}[${i++}]`);
    } else if (field.fieldKind === 'map') {
      for (const [key, value] of message.get(field)) found ??= inValue(key, path) ?? inValue(value, path);
    } else {
      found = inValue(message.get(field), path);
    }
    if (found !== undefined) return found;
  }
  return undefined;
}

function inValue(value: unknown, path: string): string | undefined {
  if (typeof value === 'string') return value.includes('\0') ? path : undefined;
  return isReflectMessage(value) ? fieldWithNul(value, `${path}.`) : undefined;
}
