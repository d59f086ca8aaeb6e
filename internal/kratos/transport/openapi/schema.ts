import type { JsonValue } from '@bufbuild/protobuf';

/** A JSON Schema of draft 2020-12, which OpenAPI 3.1 takes as it is. */
export type Schema = { readonly [keyword: string]: JsonValue };

/** Adds sentences to a description. */
export function describe(schema: Schema, ...texts: readonly (string | undefined)[]): Schema {
  const description = [schema.description, ...texts].filter((t) => t !== undefined && t !== '').join('\n\n');
  return description === '' ? schema : { ...schema, description };
}
