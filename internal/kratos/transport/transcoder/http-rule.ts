import type { DescMethod } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/** One HTTP binding of an RPC: `google.api.HttpRule`, or one of its `additional_bindings`. */
export interface HttpRule {
  /** `GET`, …; `*` for any method. */
  readonly httpMethod: string;
  readonly path: string;
  /** `*`, the name of a request field, or empty. */
  readonly body: string;
  /** Name of a reply field, or empty. */
  readonly responseBody: string;
}

/** Extension number of `google.api.http`. */
const HTTP_OPTION = 72295728;

const HTTP_METHODS = new Map([
  [2, 'GET'],
  [3, 'PUT'],
  [4, 'POST'],
  [5, 'DELETE'],
  [6, 'PATCH'],
]);

/**
 * The bindings of a method. They are read from the raw option, so that the registry does not have to contain
 * google/api/http.proto and repeated additional_bindings are not lost.
 * @throws Error if the specification does not allow the rule
 */
export function httpRulesOf(method: DescMethod): HttpRule[] {
  const rules: HttpRule[] = [];
  for (const option of method.proto.options?.$unknown ?? []) {
    if (option.no === HTTP_OPTION && option.wireType === WireType.LengthDelimited) {
      // The value of a length-delimited unknown field begins with its length.
      readRule(new BinaryReader(option.data).bytes(), String(method), rules, false);
    }
  }
  return rules;
}

function readRule(bytes: Uint8Array, owner: string, rules: HttpRule[], additional: boolean): void {
  const reader = new BinaryReader(bytes);
  let httpMethod = '';
  let path = '';
  let body = '';
  let responseBody = '';
  const more: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const known = HTTP_METHODS.get(number);
    if (known !== undefined) {
      httpMethod = known;
      path = reader.string();
    } else if (number === 7) body = reader.string();
    else if (number === 8) [httpMethod, path] = readCustom(reader.bytes());
    else if (number === 11) more.push(reader.bytes());
    else if (number === 12) responseBody = reader.string();
    else reader.skip(wireType, number);
  }
  if (httpMethod === '' || path === '') throw new Error(`${owner}: the the http rule has no method or no path`);
  if (httpMethod === 'GET' && body !== '') {
    throw new Error(`${owner}: GET ${path} cannot have a body`);
  }
  rules.push({ httpMethod, path, body, responseBody });
  if (more.length > 0 && additional) throw new Error(`${owner}: additional_bindings cannot be nested`);
  for (const rule of more) readRule(rule, owner, rules, true);
}

function readCustom(bytes: Uint8Array): [httpMethod: string, path: string] {
  const reader = new BinaryReader(bytes);
  let kind = '';
  let path = '';
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === 1) kind = reader.string();
    else if (number === 2) path = reader.string();
    else reader.skip(wireType, number);
  }
  return [kind.toUpperCase(), path];
}
