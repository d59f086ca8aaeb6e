import type { DescField, DescMessage, Registry } from '@bufbuild/protobuf';
import { hasOwnJson, refuseGroup } from './json-to-wire.js';
import { numberText } from './number-text.js';
import { scalarWriter, Wire } from './scalar.js';
import { enumReader, enumText, type ReadValue, scalarReader, zeroText } from './scalar-reader.js';
import { durationText, fieldMaskText, timestampText } from './well-known-text.js';
import { WireFault, WireReader } from './wire-reader.js';

/** Converts the wire format of a message to JSON. */
export interface MessageReader {
  json(bytes: Uint8Array): string;
}

/**
 * The value of a field read so far: JSON; for messages the bytes, because later ones are merged; for maps JSON by key,
 * because later ones win.
 */
type Found = string | Uint8Array | Map<string, string>;
type Slot = Found | undefined;

interface FieldReader {
  readonly number: number;
  /** `"name":` */
  readonly key: string;
  readonly slot: number;
  /** JSON of an absent field; undefined omits the field. */
  readonly absent: string | undefined;
  /** Slots of the other members of its oneof. */
  readonly rivals: readonly number[];
  read(reader: WireReader, wireType: number, before: Slot): Slot;
  finish(slot: Found): string;
}

/**
 * Converts wire format to proto3 JSON as grpc-gateway and Kratos write it: zero values are written, absent messages are
 * null,
 * and unset oneof members, `optional` scalars and absent google.protobuf.Value (null is one of its values) are omitted.
 */
export class WireToJson {
  private readonly readers = new Map<DescMessage, MessageReader>();

  constructor(private readonly registry: Registry) {}

  message(desc: DescMessage): MessageReader {
    const known = this.readers.get(desc);
    if (known !== undefined) return known;
    const special = this.wellKnown(desc);
    if (special !== undefined) {
      const reader = { json: special };
      this.readers.set(desc, reader);
      return reader;
    }
    const reader = new ObjectReader();
    this.readers.set(desc, reader);
    desc.fields.forEach((field, slot) => {
      reader.add(this.field(field, slot));
    });
    return reader;
  }

  /** The JSON of a single field, for `response_body`; null if it is absent and has no zero value. */
  fieldOnly(field: DescField): MessageReader {
    const reader = this.field(field, 0);
    return {
      json: (bytes) => {
        const slots: Slot[] = [undefined];
        readFields(bytes, slots, (number) => (number === reader.number ? reader : undefined));
        const slot = slots[0];
        return slot === undefined ? (reader.absent ?? 'null') : reader.finish(slot);
      },
    };
  }

  /** The wire format of a singular message field; empty if it is absent. */
  fieldBytes(message: Uint8Array, number: number): Uint8Array {
    const reader = new WireReader(message);
    const parts: Uint8Array[] = [];
    while (reader.position < reader.end) {
      const tag = reader.uint32();
      if (tag >>> 3 === number && (tag & 7) === Wire.LENGTH) parts.push(reader.bytes());
      else reader.skip(tag & 7);
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  private field(field: DescField, slot: number): FieldReader {
    refuseGroup(field);
    const rivals =
      field.oneof === undefined
        ? []
        : field.oneof.fields.filter((other) => other !== field).map((other) => field.parent.fields.indexOf(other));
    const base = { number: field.number, key: `${JSON.stringify(field.jsonName)}:`, slot, rivals };
    switch (field.fieldKind) {
      case 'scalar': {
        const read = scalarReader(field.scalar);
        const { wireType } = scalarWriter(field.scalar);
        const absent = field.presence === IMPLICIT ? zeroText(field.scalar) : undefined;
        return { ...base, absent, read: single(read, wireType), finish: asText };
      }
      case 'enum': {
        const read = enumReader(field.enum);
        const absent = field.presence === IMPLICIT ? enumText(field.enum, 0) : undefined;
        return { ...base, absent, read: single(read, Wire.VARINT), finish: asText };
      }
      case 'message': {
        const message = this.message(field.message);
        return {
          ...base,
          absent: field.oneof === undefined && field.message.typeName !== VALUE ? 'null' : undefined,
          read: (reader, wireType, before) => {
            expectWire(wireType, Wire.LENGTH);
            const bytes = reader.bytes();
            return before instanceof Uint8Array ? Buffer.concat([before, bytes]) : bytes;
          },
          finish: (bytes) => message.json(bytes as Uint8Array),
        };
      }
      case 'list':
        return { ...base, absent: '[]', read: this.list(field), finish: (items) => `[${items as string}]` };
      case 'map':
        return { ...base, absent: '{}', read: this.map(field), finish: mapText };
    }
  }

  private list(field: DescField & { fieldKind: 'list' }): FieldReader['read'] {
    if (field.listKind === 'message') {
      const message = this.message(field.message);
      return (reader, wireType, before) => {
        expectWire(wireType, Wire.LENGTH);
        return append(before, message.json(reader.bytes()));
      };
    }
    const read = field.listKind === 'enum' ? enumReader(field.enum) : scalarReader(field.scalar);
    const itemType = field.listKind === 'enum' ? Wire.VARINT : scalarWriter(field.scalar).wireType;
    return (reader, wireType, before) => {
      if (wireType === itemType) return append(before, read(reader));
      // Packed, whatever the declaration says: readers must accept both.
      expectWire(wireType, Wire.LENGTH);
      const packed = new WireReader(reader.bytes());
      let items = before;
      while (packed.position < packed.end) items = append(items, read(packed));
      return items;
    };
  }

  private map(field: DescField & { fieldKind: 'map' }): FieldReader['read'] {
    const readKey = scalarReader(field.mapKey);
    const zeroKey = zeroText(field.mapKey);
    const message = field.mapKind === 'message' ? this.message(field.message) : undefined;
    const readValue: ReadValue =
      field.mapKind === 'message'
        ? (reader) => message!.json(reader.bytes())
        : field.mapKind === 'enum'
          ? enumReader(field.enum)
          : scalarReader(field.scalar);
    const zeroValue = (): string =>
      field.mapKind === 'message'
        ? message!.json(new Uint8Array())
        : field.mapKind === 'enum'
          ? enumText(field.enum, 0)
          : zeroText(field.scalar);
    return (reader, wireType, before) => {
      expectWire(wireType, Wire.LENGTH);
      const entry = new WireReader(reader.bytes());
      let key = zeroKey;
      let value: string | undefined;
      while (entry.position < entry.end) {
        const tag = entry.uint32();
        if (tag >>> 3 === 1) key = readKey(entry);
        else if (tag >>> 3 === 2) value = readValue(entry);
        else entry.skip(tag & 7);
      }
      const name = key.startsWith('"') ? key : `"${key}"`;
      const entries = before instanceof Map ? before : new Map<string, string>();
      return entries.set(name, value ?? zeroValue());
    };
  }

  private wellKnown(desc: DescMessage): ((bytes: Uint8Array) => string) | undefined {
    if (!hasOwnJson(desc.typeName)) return undefined;
    switch (desc.typeName) {
      case 'google.protobuf.Any':
        return (bytes) => this.any(bytes);
      case 'google.protobuf.Timestamp':
        return (bytes) => quoted(instantText(bytes, timestampText), desc);
      case 'google.protobuf.Duration':
        return (bytes) => quoted(instantText(bytes, durationText), desc);
      case 'google.protobuf.FieldMask':
        return (bytes) => {
          const paths: string[] = [];
          each(bytes, (reader) => paths.push(reader.string()));
          return quoted(fieldMaskText(paths), desc);
        };
      case 'google.protobuf.Struct':
        return structText;
      case 'google.protobuf.Value':
        return valueText;
      case 'google.protobuf.ListValue':
        return listValueText;
      default: {
        const scalar = desc.fields[0]?.scalar;
        if (scalar === undefined) throw new Error(`${desc.typeName} is not a wrapper`);
        const read = scalarReader(scalar);
        return (bytes) => {
          let text = zeroText(scalar);
          each(bytes, (reader) => {
            text = read(reader);
          });
          return text;
        };
      }
    }
  }

  private any(bytes: Uint8Array): string {
    let typeUrl = '';
    let value: Uint8Array = new Uint8Array();
    each(bytes, (reader, number) => {
      if (number === 1) typeUrl = reader.string();
      else value = reader.bytes();
    });
    return typeUrl === '' ? '{}' : this.anyText(typeUrl, value);
  }

  /**
   * The JSON of a packed message. A type that is not in the registry is written as base64, so that the reply does not
   * fail.
   */
  anyText(typeUrl: string, value: Uint8Array): string {
    const type = `{"@type":${JSON.stringify(typeUrl)}`;
    const desc = this.registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf('/') + 1));
    if (desc === undefined) return `${type},"value":"${Buffer.from(value).toString('base64')}"}`;
    const json = this.message(desc).json(value);
    if (hasOwnJson(desc.typeName)) return `${type},"value":${json}}`;
    return json === '{}' ? `${type}}` : `${type},${json.slice(1)}`;
  }
}

class ObjectReader implements MessageReader {
  private readonly fields: FieldReader[] = [];
  private readonly byNumber = new Map<number, FieldReader>();

  add(field: FieldReader): void {
    this.fields.push(field);
    this.byNumber.set(field.number, field);
  }

  json(bytes: Uint8Array): string {
    const { fields, byNumber } = this;
    const slots = new Array<Slot>(fields.length);
    readFields(bytes, slots, (number) => byNumber.get(number));
    let out = '{';
    for (const field of fields) {
      const slot = slots[field.slot];
      const text = slot === undefined ? field.absent : field.finish(slot);
      if (text !== undefined) out += out.length === 1 ? field.key + text : `,${field.key}${text}`;
    }
    return `${out}}`;
  }
}

function readFields(bytes: Uint8Array, slots: Slot[], find: (number: number) => FieldReader | undefined): void {
  const reader = new WireReader(bytes);
  while (reader.position < reader.end) {
    const tag = reader.uint32();
    const field = find(tag >>> 3);
    if (field === undefined) {
      reader.skip(tag & 7);
      continue;
    }
    slots[field.slot] = field.read(reader, tag & 7, slots[field.slot]);
    for (const rival of field.rivals) slots[rival] = undefined;
  }
}

const VALUE = 'google.protobuf.Value';

/** google.protobuf.FeatureSet.FieldPresence.IMPLICIT. */
const IMPLICIT = 2;

function expectWire(got: number, expected: number): void {
  if (got !== expected) throw new WireFault(`wire type ${got} where ${expected} belongs`);
}

function single(read: ReadValue, expected: number): FieldReader['read'] {
  return (reader, wireType) => {
    expectWire(wireType, expected);
    return read(reader);
  };
}

function asText(slot: Found): string {
  return slot as string;
}

function append(before: Slot, item: string): string {
  return before === undefined ? item : `${before as string},${item}`;
}

function mapText(slot: Found): string {
  let out = '';
  for (const [name, value] of slot as Map<string, string>) out += `${out === '' ? '' : ','}${name}:${value}`;
  return `{${out}}`;
}

/** Visits each field; only numbers 1 and 2 are read, because only Value has more. */
function each(bytes: Uint8Array, visit: (reader: WireReader, number: number) => void): void {
  const reader = new WireReader(bytes);
  while (reader.position < reader.end) {
    const tag = reader.uint32();
    if (tag >>> 3 <= 2) visit(reader, tag >>> 3);
    else reader.skip(tag & 7);
  }
}

function instantText(
  bytes: Uint8Array,
  text: (seconds: number, nanos: number) => string | undefined,
): string | undefined {
  let seconds = 0;
  let nanos = 0;
  each(bytes, (reader, number) => {
    if (number === 1) seconds = reader.int64Number();
    else nanos = reader.int32();
  });
  return text(seconds, nanos);
}

function quoted(text: string | undefined, desc: DescMessage): string {
  if (text === undefined) throw new WireFault(`${desc.typeName} has no JSON form`);
  return `"${text}"`;
}

function structText(bytes: Uint8Array): string {
  const members = new Map<string, string>();
  each(bytes, (reader) => {
    let key = '';
    let value = 'null';
    each(reader.bytes(), (entry, number) => {
      if (number === 1) key = entry.string();
      else value = valueText(entry.bytes());
    });
    members.set(key, value);
  });
  return `{${[...members].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}

function listValueText(bytes: Uint8Array): string {
  const items: string[] = [];
  each(bytes, (reader) => items.push(valueText(reader.bytes())));
  return `[${items.join(',')}]`;
}

function valueText(bytes: Uint8Array): string {
  const reader = new WireReader(bytes);
  let out: string | undefined;
  while (reader.position < reader.end) {
    const tag = reader.uint32();
    switch (tag >>> 3) {
      case 1:
        reader.uint32();
        out = 'null';
        break;
      case 2: {
        const value = reader.double();
        if (!Number.isFinite(value)) throw new WireFault(`google.protobuf.Value of ${value} has no JSON form`);
        out = numberText(value);
        break;
      }
      case 3:
        out = JSON.stringify(reader.string());
        break;
      case 4:
        out = reader.bool() ? 'true' : 'false';
        break;
      case 5:
        out = structText(reader.bytes());
        break;
      case 6:
        out = listValueText(reader.bytes());
        break;
      default:
        reader.skip(tag & 7);
    }
  }
  if (out === undefined) throw new WireFault('google.protobuf.Value without a kind has no JSON form');
  return out;
}

/** Decodes a google.api.HttpBody. */
export function readHttpBody(bytes: Uint8Array): { contentType: string; data: Uint8Array } {
  let contentType = '';
  let data: Uint8Array = new Uint8Array();
  each(bytes, (reader, number) => {
    if (number === 1) contentType = reader.string();
    else data = reader.bytes();
  });
  return { contentType, data };
}
