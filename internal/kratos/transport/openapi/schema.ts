import type { JsonValue } from '@bufbuild/protobuf';

/** A JSON Schema of draft 2020-12, as OpenAPI 3.1 uses it. */
export type Schema = { readonly [keyword: string]: JsonValue };

/** Appends paragraphs to the description. */
export function describe(schema: Schema, ...texts: readonly (string | undefined)[]): Schema {
  const description = [schema.description, ...texts].filter((t) => t !== undefined && t !== '').join('\n\n');
  return description === '' ? schema : { ...schema, description };
}
