import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { hasOwnJson } from './json-to-wire.js';

const NAME = 'update_mask';

/** The field `google.protobuf.FieldMask update_mask` of a request; undefined if it has none. */
export function updateMaskOf(input: DescMessage): DescField | undefined {
  return input.fields.find(
    (field) =>
      field.name === NAME && field.fieldKind === 'message' && field.message.typeName === 'google.protobuf.FieldMask',
  );
}

/**
 * The proto paths of all fields in a JSON body, as grpc-gateway infers an update mask for PATCH: objects of messages
 * are
 * entered; scalars, lists, maps, well-known messages, null and `{}` count as a whole. Unknown fields are skipped.
 * @param body JSON that has already been read as `desc`
 * @param skip fields of `desc` that are not part of what is updated
 */
export function maskPathsOf(desc: DescMessage, body: string, skip: ReadonlySet<DescField>): string[] {
  const paths: string[] = [];
  const visit = (message: DescMessage, value: unknown, prefix: string): void => {
    for (const [key, member] of Object.entries(value as Record<string, unknown>)) {
      const field = message.fields.find((f) => f.jsonName === key || f.name === key);
      if (field === undefined || (prefix === '' && skip.has(field))) continue;
      const path = prefix + field.name;
      if (entersMessage(field, member)) visit(field.message as DescMessage, member, `${path}.`);
      else paths.push(path);
    }
  };
  const value: unknown = JSON.parse(body);
  if (typeof value === 'object' && value !== null) visit(desc, value, '');
  return paths;
}

function entersMessage(field: DescField, member: unknown): boolean {
  return (
    field.fieldKind === 'message' &&
    !hasOwnJson(field.message.typeName) &&
    typeof member === 'object' &&
    member !== null &&
    Object.keys(member).length > 0
  );
}
