import { create, type DescMessage, fromBinary, hasOption, type Registry } from '@bufbuild/protobuf';
import { pathToString } from '@bufbuild/protobuf/reflect';
import { createValidator } from '@bufbuild/protovalidate';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import type { FieldViolation } from '../../errors/error.js';
import type { Middleware } from '../call.js';

/** Holds requests to the buf.validate rules of their protos. Rules that do not compile fail the boot. */
export function validation(registry: Registry): Middleware {
  const validator = createValidator({ registry });
  const extensions = ['field', 'message', 'oneof'].map((n) => registry.getExtension(`buf.validate.${n}`));
  const [fieldRules, messageRules, oneofRules] = extensions;
  if (!fieldRules || !messageRules || !oneofRules) throw new Error('buf/validate is not among the descriptors');

  const hasRules = (message: DescMessage, seen: Set<DescMessage>): boolean => {
    if (seen.has(message)) return false;
    seen.add(message);
    return (
      hasOption(message, messageRules) ||
      message.oneofs.some((o) => hasOption(o, oneofRules)) ||
      message.fields.some((f) => hasOption(f, fieldRules) || (f.message !== undefined && hasRules(f.message, seen)))
    );
  };

  return (next, method) => {
    const { input } = method;
    if (!hasRules(input, new Set())) return next;
    if (method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming') {
      throw new Error(`${input.typeName} has rules, but requests of a stream are not validated`);
    }
    const compiled = validator.validate(input, create(input));
    if (compiled.kind === 'error') throw compiled.error;
    return async (call) => {
      const bytes = call.bind();
      let message: ReturnType<typeof create>;
      try {
        message = fromBinary(input, bytes);
      } catch (err) {
        throw invalidArgument(`the request is not a ${input.typeName}`, { cause: err });
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
      return next(call);
    };
  };
}
