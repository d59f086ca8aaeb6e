import { isUtf8 } from 'node:buffer';
import { type DescField, type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { maskPathsOf, updateMaskOf } from './field-mask.js';
import type { HttpRule } from './http-rule.js';
import { JsonReader } from './json-reader.js';
import type { FieldWriter, JsonToWire, MessageWriter } from './json-to-wire.js';
import type { PathVariable } from './path-template.js';
import { parseQuery } from './query.js';
import { Wire } from './scalar.js';
import { mapEntryWriter, takesEmptyText, textWriter, type WriteText } from './text-to-wire.js';
import { invalidArgument } from './transcode-error.js';
import { writeFieldMask } from './well-known-writer.js';
import { tagOf, type WireWriter } from './wire-writer.js';

export interface BinderOptions {
  readonly codec: JsonToWire;
  readonly writer: WireWriter;
  readonly strictQuery: boolean;
  readonly maxJsonDepth: number;
  readonly maxQueryParameters: number;
}

/** How a body is encoded; `raw` is a google.api.HttpBody. */
export type BodyEncoding = 'json' | 'protobuf' | 'raw';

export interface RequestParts {
  readonly pathValues: readonly string[];
  /** The raw query string, without the `?`. */
  readonly query: string;
  readonly body: Uint8Array;
  readonly encoding: BodyEncoding;
  /** The body's Content-Type, for `raw`. */
  readonly contentType: string;
}

/** A field within the request message, and the messages around it. */
interface Place {
  readonly jsonPath: string;
  /** Tags of the messages around the field, outermost first. */
  readonly parents: readonly number[];
  readonly field: DescField;
  /** The oneofs that the field or a message around it belongs to, each with the member's name. */
  readonly oneofs: readonly (readonly [oneof: string, member: string])[];
}

type QueryTarget = (Place & { readonly write: WriteText; readonly repeated: boolean; readonly id: string }) | 'unknown';

const HTTP_BODY = 'google.api.HttpBody';
/** Number of resolved query parameter names that are cached; clients send few different ones. */
const MAX_KNOWN_NAMES = 256;

/** Builds the request message of one route from path, query and body. Compiled once, run for each request. */
export class RequestBinder {
  /** Whether the body is a google.api.HttpBody, so that any content type is accepted. */
  readonly bodyIsRaw: boolean;
  readonly takesBody: boolean;
  private readonly whole: MessageWriter | undefined;
  private readonly bodyField: FieldWriter | undefined;
  private readonly path: readonly (Place & { readonly write: WriteText })[];
  private readonly targets = new Map<string, QueryTarget>();
  /** Only for PATCH: the mask that is inferred from the fields of the body if the request does not set it. */
  private readonly updateMask: DescField | undefined;

  /** @throws Error if the rule names fields that do not exist or cannot be bound */
  constructor(
    private readonly input: DescMessage,
    { httpMethod, body }: Pick<HttpRule, 'httpMethod' | 'body'>,
    variables: readonly PathVariable[],
    private readonly options: BinderOptions,
  ) {
    const { codec } = options;
    this.whole = body === '*' ? codec.message(input) : undefined;
    this.takesBody = body !== '';
    if (body !== '' && body !== '*') {
      const field = input.fields.find((candidate) => candidate.name === body);
      if (field === undefined) throw new Error(`body: ${input.typeName} has no field ${body}`);
      this.bodyField = codec.field(field);
    }
    const bodyMessage = this.whole !== undefined ? input : singularMessage(this.bodyField?.field);
    this.bodyIsRaw = bodyMessage?.typeName === HTTP_BODY;
    this.path = variables.map((variable) => this.pathPlace(variable));
    this.updateMask = httpMethod === 'PATCH' && this.takesBody ? updateMaskOf(input) : undefined;
  }

  private pathPlace(variable: PathVariable): Place & { write: WriteText } {
    const name = variable.fieldPath.join('.');
    const place = this.place(variable.fieldPath);
    if (place === undefined) throw new Error(`path: ${this.input.typeName} has no field ${name}`);
    const write =
      place.field.fieldKind === 'list'
        ? undefined
        : textWriter(place.field, this.options.codec, this.options.maxJsonDepth);
    if (write === undefined) throw new Error(`path: ${name} of ${this.input.typeName} cannot be bound to a path`);
    if (place.field === this.bodyField?.field) throw new Error(`${name} is bound to both path and body`);
    return { ...place, write };
  }

  /** The field with this path; undefined if there is none. */
  private place(names: readonly string[]): Place | undefined {
    let message: DescMessage | undefined = this.input;
    let jsonPath = '';
    const parents: number[] = [];
    const oneofs: [string, string][] = [];
    for (const [i, name] of names.entries()) {
      const field: DescField | undefined = message?.fields.find((f) => f.name === name || f.jsonName === name);
      if (field === undefined) return undefined;
      if (field.oneof !== undefined) oneofs.push([`${jsonPath}#${field.oneof.name}`, field.jsonName]);
      jsonPath += jsonPath === '' ? field.jsonName : `.${field.jsonName}`;
      if (i === names.length - 1) return { jsonPath, parents, field, oneofs };
      parents.push(tagOf(field.number, Wire.LENGTH));
      message = singularMessage(field);
    }
    return undefined;
  }

  /**
   * The request message in wire format. As protobuf readers merge fields, later writes win: body, then query, then
   * path.
   * @throws TranscodeError INVALID_ARGUMENT
   */
  bind(parts: RequestParts): Uint8Array {
    const writer = this.options.writer.reset();
    const oneofs = new Map<string, string>();
    const hasBody = this.takesBody && (parts.body.length > 0 || parts.encoding === 'raw');
    if (hasBody) this.writeBody(parts, writer, oneofs);
    let nested = 0;
    const given = new Set<string>();
    if (parts.query !== '') nested += this.writeQuery(parts.query, writer, oneofs, given);
    if (hasBody && parts.encoding === 'json') this.inferUpdateMask(parts.body, given, writer);
    for (let i = 0; i < this.path.length; i++) {
      const place = this.path[i]!;
      claimOneofs(place, oneofs);
      if (place.parents.length > 0) nested++;
      writeAt(place, writer, place.write, parts.pathValues[i]!);
    }
    const bytes = writer.finish();
    // Not every reader merges a message that is split into several pieces, so they are merged here.
    return nested > 1 || (nested > 0 && hasBody) ? toBinary(this.input, fromBinary(this.input, bytes)) : bytes;
  }

  private writeBody(parts: RequestParts, writer: WireWriter, oneofs: Map<string, string>): void {
    const field = this.bodyField?.field;
    if (field?.oneof !== undefined) oneofs.set(`#${field.oneof.name}`, field.jsonName);
    switch (parts.encoding) {
      case 'raw':
        if (field === undefined) {
          writeHttpBody(parts, writer);
        } else {
          writer.uint32(tagOf(field.number, Wire.LENGTH));
          const start = writer.begin();
          writeHttpBody(parts, writer);
          writer.end(start);
        }
        return;
      case 'protobuf':
        this.writeProtobuf(parts.body, writer, oneofs);
        return;
      case 'json':
        this.writeJson(parts.body, writer, oneofs);
    }
  }

  private writeJson(body: Uint8Array, writer: WireWriter, oneofs: Map<string, string>): void {
    if (!isUtf8(body)) throw invalidArgument('', 'the body is not UTF-8');
    const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
    const reader = new JsonReader(text, this.options.maxJsonDepth);
    if (this.bodyField === undefined) {
      const set = this.whole!.write(reader, writer);
      set?.forEach((member, i) => {
        if (member !== undefined) oneofs.set(`#${this.input.oneofs[i]!.name}`, member);
      });
    } else {
      reader.push(this.bodyField.field.jsonName);
      if (this.bodyField.nullIsAbsent && reader.isNull()) reader.null();
      else this.bodyField.write(reader, writer);
      reader.pop();
    }
    reader.end();
  }

  private writeProtobuf(body: Uint8Array, writer: WireWriter, oneofs: Map<string, string>): void {
    const field = this.bodyField?.field;
    const message = field === undefined ? this.input : singularMessage(field);
    if (message === undefined) {
      throw invalidArgument(field!.jsonName, 'the body is not a message, so it must be JSON');
    }
    // Re-encoded without unknown fields, so that only well-formed messages are passed on, as with JSON.
    const value = readMessage(message, body, field?.jsonName ?? '');
    const bytes = toBinary(message, value, { writeUnknownFields: false });
    if (field !== undefined) {
      writer.uint32(tagOf(field.number, Wire.LENGTH));
      writer.bytes(bytes);
      return;
    }
    const members = value as unknown as Readonly<Record<string, { case?: string } | undefined>>;
    for (const oneof of this.input.oneofs) {
      const set = members[oneof.localName]?.case;
      const member = oneof.fields.find((candidate) => candidate.localName === set);
      if (member !== undefined) oneofs.set(`#${oneof.name}`, member.jsonName);
    }
    writer.raw(bytes);
  }

  /** Writes the update mask of a PATCH that does not set it: the fields of the body, as grpc-gateway infers it. */
  private inferUpdateMask(body: Uint8Array, given: ReadonlySet<string>, writer: WireWriter): void {
    const { updateMask } = this;
    if (updateMask === undefined || given.has(updateMask.jsonName)) return;
    const message = this.whole !== undefined ? this.input : singularMessage(this.bodyField?.field);
    if (message === undefined) return;
    const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
    const bound = this.path.flatMap((place) => (place.parents.length === 0 ? [place.field] : []));
    const paths = maskPathsOf(message, text, this.whole === undefined ? new Set() : new Set(bound));
    if (paths.length === 0 || (this.whole !== undefined && paths.includes(updateMask.name))) return;
    writer.uint32(tagOf(updateMask.number, Wire.LENGTH));
    const start = writer.begin();
    writeFieldMask(paths, writer);
    writer.end(start);
  }

  /**
   * @param seen receives the ids of the fields that were given
   * @returns the number of parameters for fields of nested messages
   */
  private writeQuery(query: string, writer: WireWriter, oneofs: Map<string, string>, seen: Set<string>): number {
    let nested = 0;
    for (const [name, value] of parseQuery(query, this.options.maxQueryParameters)) {
      const target = this.target(name);
      if (target === 'unknown') {
        if (this.options.strictQuery) throw invalidArgument(name, 'unknown query parameter');
        continue;
      }
      if (value === '' && !takesEmptyText(target.field)) {
        if (this.options.strictQuery) throw invalidArgument(target.jsonPath, 'has no value');
        continue;
      }
      if (!target.repeated && seen.has(target.id)) throw invalidArgument(target.id, 'given more than once');
      seen.add(target.id);
      claimOneofs(target, oneofs);
      if (target.parents.length > 0) nested++;
      writeAt(target, writer, target.write, value);
    }
    return nested;
  }

  private target(name: string): QueryTarget {
    const known = this.targets.get(name);
    if (known !== undefined) return known;
    const target = this.resolve(name);
    // Unknown names and map keys are not cached: a client could fill the cache with them.
    if (target !== 'unknown' && !name.endsWith(']') && this.targets.size < MAX_KNOWN_NAMES) {
      this.targets.set(name, target);
    }
    return target;
  }

  private resolve(name: string): QueryTarget {
    if (this.whole !== undefined) return 'unknown';
    const open = name.endsWith(']') ? name.indexOf('[') : -1;
    const place = this.place((open < 0 ? name : name.slice(0, open)).split('.'));
    if (place === undefined || this.isBoundElsewhere(place)) return 'unknown';
    const { field } = place;
    const { codec, maxJsonDepth } = this.options;
    if (open >= 0) {
      const writeEntry = field.fieldKind === 'map' ? mapEntryWriter(field, codec, maxJsonDepth) : undefined;
      if (writeEntry === undefined) throw invalidArgument(name, 'cannot be set by the query');
      const key = name.slice(open + 1, -1);
      const id = `${place.jsonPath}[${JSON.stringify(key)}]`;
      return { ...place, id, repeated: false, write: (text, writer) => writeEntry(key, text, writer) };
    }
    const write = textWriter(field, codec, maxJsonDepth);
    if (write === undefined) throw invalidArgument(place.jsonPath, 'cannot be set by the query');
    return { ...place, id: place.jsonPath, repeated: field.fieldKind === 'list', write };
  }

  /** Fields that path or body set, and their subfields, are not read from the query. */
  private isBoundElsewhere(place: Place): boolean {
    const within = (bound: string): boolean => place.jsonPath === bound || place.jsonPath.startsWith(`${bound}.`);
    if (this.bodyField !== undefined && within(this.bodyField.field.jsonName)) return true;
    return this.path.some((variable) => within(variable.jsonPath));
  }
}

function readMessage(desc: DescMessage, bytes: Uint8Array, field: string): Message {
  try {
    return fromBinary(desc, bytes, { readUnknownFields: false });
  } catch {
    throw invalidArgument(field, `the body is not a valid ${desc.typeName} in protobuf format`);
  }
}

function singularMessage(field: DescField | undefined): DescMessage | undefined {
  return field?.fieldKind === 'message' ? field.message : undefined;
}

function claimOneofs(place: Place, oneofs: Map<string, string>): void {
  for (const [oneof, member] of place.oneofs) {
    const other = oneofs.get(oneof);
    if (other !== undefined && other !== member) {
      throw invalidArgument(place.jsonPath, `cannot be set together with ${other}`);
    }
    oneofs.set(oneof, member);
  }
}

function writeAt(place: Place, writer: WireWriter, write: WriteText, text: string): void {
  const starts: number[] = [];
  for (const tag of place.parents) {
    writer.uint32(tag);
    starts.push(writer.begin());
  }
  const fault = write(text, writer);
  if (fault !== undefined) throw invalidArgument(place.jsonPath, fault);
  for (let i = starts.length - 1; i >= 0; i--) writer.end(starts[i]!);
}

function writeHttpBody(parts: RequestParts, writer: WireWriter): void {
  writer.uint32(tagOf(1, Wire.LENGTH));
  writer.string(parts.contentType);
  writer.uint32(tagOf(2, Wire.LENGTH));
  writer.bytes(parts.body);
}
