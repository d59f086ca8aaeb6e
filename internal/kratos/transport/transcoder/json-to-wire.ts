import { type DescField, type DescMessage, type Registry, ScalarType } from '@bufbuild/protobuf';
import type { JsonReader } from './json-reader.js';
import { enumWriter, type ScalarWriter, scalarWriter, Wire } from './scalar.js';
import { parseDuration, parseFieldMask, parseTimestamp } from './well-known-text.js';
import { writeFieldMask, writeInstant, writeListValue, writeStruct, writeValue } from './well-known-writer.js';
import { tagOf, type WireWriter } from './wire-writer.js';

/** Writes a JSON value in wire format. */
type Write = (reader: JsonReader, writer: WireWriter) => void;

/** Converts the JSON value of a field to wire format, including the tag. */
export interface FieldWriter {
  readonly field: DescField;
  /** False if null is a value of the field: a singular google.protobuf.Value or NullValue. */
  readonly nullIsAbsent: boolean;
  readonly write: Write;
  /** Index in the message, to detect duplicates. */
  readonly index: number;
  /** Index of its oneof in the message; -1 if it is in none. */
  readonly oneofIndex: number;
}

/** JSON names of the oneof members that were set, by the oneof's index; undefined if the message has no oneofs. */
export type OneofsSet = (string | undefined)[] | undefined;

/** Converts the JSON of a message to wire format, without tag and length. */
export interface MessageWriter {
  write(reader: JsonReader, writer: WireWriter): OneofsSet;
}

/** Whether the JSON of a message is not an object of its fields. In Any, such a message is written under "value". */
export function hasOwnJson(typeName: string): boolean {
  return WELL_KNOWN.has(typeName);
}

const WELL_KNOWN = new Set(
  [
    ...['Any', 'Timestamp', 'Duration', 'FieldMask', 'Struct', 'Value', 'ListValue'],
    ...['DoubleValue', 'FloatValue', 'Int64Value', 'UInt64Value', 'Int32Value', 'UInt32Value', 'BoolValue'],
    ...['StringValue', 'BytesValue'],
  ].map((name) => `google.protobuf.${name}`),
);

/** Strict proto3 JSON to wire format: one compiled writer per message type, created when first needed. */
export class JsonToWire {
  private readonly writers = new Map<DescMessage, MessageWriter>();

  constructor(
    private readonly registry: Registry,
    private readonly refuseUnknownFields: boolean,
  ) {}

  message(desc: DescMessage): MessageWriter {
    const known = this.writers.get(desc);
    if (known !== undefined) return known;
    const special = this.wellKnown(desc);
    if (special !== undefined) {
      const writer: MessageWriter = {
        write: (r, w) => {
          special(r, w);
          return undefined;
        },
      };
      this.writers.set(desc, writer);
      return writer;
    }
    const writer = new ObjectWriter(desc, this.refuseUnknownFields);
    // Registered before its fields are compiled, because a type may contain itself.
    this.writers.set(desc, writer);
    desc.fields.forEach((field, index) => {
      writer.add(this.field(field, index));
    });
    return writer;
  }

  /** The writer of a field; also for `body: "field"`. */
  field(field: DescField, index = 0): FieldWriter {
    refuseGroup(field);
    const oneofIndex = field.oneof === undefined ? -1 : field.parent.oneofs.indexOf(field.oneof);
    const nullIsAbsent = field.fieldKind === 'list' || field.fieldKind === 'map' || !takesNull(field);
    return { field, nullIsAbsent, write: this.fieldWrite(field), index, oneofIndex };
  }

  private fieldWrite(field: DescField): Write {
    switch (field.fieldKind) {
      case 'scalar':
        return tagged(field.number, scalarWriter(field.scalar));
      case 'enum':
        return tagged(field.number, enumWriter(field.enum));
      case 'message':
        return this.delimited(field.number, field.message);
      case 'list':
        return this.list(field);
      case 'map':
        return this.map(field);
    }
  }

  private delimited(number: number, desc: DescMessage): Write {
    const tag = tagOf(number, Wire.LENGTH);
    const message = this.message(desc);
    return (reader, writer) => {
      writer.uint32(tag);
      const start = writer.begin();
      message.write(reader, writer);
      writer.end(start);
    };
  }

  private list(field: DescField & { fieldKind: 'list' }): Write {
    const scalar =
      field.listKind === 'message'
        ? undefined
        : field.listKind === 'enum'
          ? enumWriter(field.enum)
          : scalarWriter(field.scalar);
    const packed = field.packed && scalar !== undefined && scalar.wireType !== Wire.LENGTH;
    const item: Write =
      field.listKind === 'message'
        ? this.delimited(field.number, field.message)
        : packed
          ? (reader, writer) => scalar!.json(reader, writer)
          : tagged(field.number, scalar!);
    const nullIsFault = !takesNull(field);
    const items: Write = (reader, writer) => {
      reader.beginArray();
      let i = 0;
      for (let more = reader.nextItem(true); more; more = reader.nextItem(false)) {
        reader.push(i++);
        if (nullIsFault && reader.isNull()) throw reader.unexpected('an item');
        item(reader, writer);
        reader.pop();
      }
    };
    if (!packed) return items;
    const tag = tagOf(field.number, Wire.LENGTH);
    return (reader, writer) => {
      writer.uint32(tag);
      const start = writer.begin();
      items(reader, writer);
      writer.end(start);
    };
  }

  private map(field: DescField & { fieldKind: 'map' }): Write {
    const tag = tagOf(field.number, Wire.LENGTH);
    const key = mapKeyWriter(field.mapKey);
    const value =
      field.mapKind === 'message'
        ? this.delimited(2, field.message)
        : tagged(2, field.mapKind === 'enum' ? enumWriter(field.enum) : scalarWriter(field.scalar));
    const nullIsFault = !takesNull(field);
    return (reader, writer) => {
      reader.beginObject();
      const seen = new Set<string>();
      for (let text = reader.nextKey(true); text !== undefined; text = reader.nextKey(false)) {
        reader.pushKey(text);
        if (seen.has(text)) throw reader.fault('duplicate key');
        seen.add(text);
        writer.uint32(tag);
        const start = writer.begin();
        const fault = key(text, writer);
        if (fault !== undefined) throw reader.fault(`map key is ${fault}`);
        if (nullIsFault && reader.isNull()) throw reader.unexpected('a map value');
        value(reader, writer);
        writer.end(start);
        reader.pop();
      }
    };
  }

  private wellKnown(desc: DescMessage): Write | undefined {
    if (!WELL_KNOWN.has(desc.typeName)) return undefined;
    switch (desc.typeName) {
      case 'google.protobuf.Any':
        return (reader, writer) => this.any(reader, writer);
      case 'google.protobuf.Timestamp':
        return (reader, writer) => {
          const value = parseTimestamp(reader.string());
          if (value === undefined) throw reader.fault('not an RFC 3339 timestamp in the years 1 to 9999');
          writeInstant(value.seconds, value.nanos, writer);
        };
      case 'google.protobuf.Duration':
        return (reader, writer) => {
          const value = parseDuration(reader.string());
          if (value === undefined) throw reader.fault('not a duration such as "1.5s"');
          writeInstant(value.seconds, value.nanos, writer);
        };
      case 'google.protobuf.FieldMask':
        return (reader, writer) => {
          const paths = parseFieldMask(reader.string());
          if (paths === undefined) throw reader.fault('not a field mask such as "name,priceFen"');
          writeFieldMask(paths, writer);
        };
      case 'google.protobuf.Struct':
        return writeStruct;
      case 'google.protobuf.Value':
        return writeValue;
      case 'google.protobuf.ListValue':
        return writeListValue;
      default: {
        const field = desc.fields[0];
        if (field?.fieldKind !== 'scalar') throw new Error(`${desc.typeName} is not a wrapper`);
        return tagged(field.number, scalarWriter(field.scalar));
      }
    }
  }

  /** "@type" may be anywhere in the object, so it is searched for first. */
  private any(reader: JsonReader, writer: WireWriter): void {
    const mark = reader.mark();
    let typeUrl: string | undefined;
    let members = 0;
    reader.beginObject();
    for (let key = reader.nextKey(true); key !== undefined; key = reader.nextKey(false)) {
      members++;
      if (key !== '@type') {
        reader.skip();
        continue;
      }
      if (typeUrl !== undefined) throw reader.fault('duplicate key "@type"');
      typeUrl = reader.string();
    }
    if (members === 0) return;
    const desc = this.anyType(reader, typeUrl);
    writer.uint32(tagOf(1, Wire.LENGTH));
    writer.string(typeUrl!);
    reader.rewind(mark);
    writer.uint32(tagOf(2, Wire.LENGTH));
    const start = writer.begin();
    const message = this.message(desc);
    if (message instanceof ObjectWriter) message.writeMembers(reader, writer, true);
    else this.anyValue(reader, writer, message);
    writer.end(start);
  }

  private anyType(reader: JsonReader, typeUrl: string | undefined): DescMessage {
    if (typeUrl === undefined) throw reader.fault('"@type" is missing');
    const slash = typeUrl.lastIndexOf('/');
    const desc = slash < 0 ? undefined : this.registry.getMessage(typeUrl.slice(slash + 1));
    if (desc === undefined) throw reader.fault(`unknown type ${JSON.stringify(typeUrl)}`);
    return desc;
  }

  private anyValue(reader: JsonReader, writer: WireWriter, message: MessageWriter): void {
    let found = false;
    reader.beginObject();
    for (let key = reader.nextKey(true); key !== undefined; key = reader.nextKey(false)) {
      if (key === '@type') {
        reader.skip();
        continue;
      }
      reader.push(key);
      if (key !== 'value') {
        if (this.refuseUnknownFields) throw reader.fault('unknown field');
        reader.skip();
      } else {
        if (found) throw reader.fault('duplicate key');
        found = true;
        message.write(reader, writer);
      }
      reader.pop();
    }
    if (!found) throw reader.fault('"value" is missing');
  }
}

class ObjectWriter implements MessageWriter {
  private readonly fields = new Map<string, FieldWriter>();
  private readonly oneofCount: number;

  constructor(
    desc: DescMessage,
    private readonly refuseUnknown: boolean,
  ) {
    this.oneofCount = desc.oneofs.length;
  }

  add(writer: FieldWriter): void {
    this.fields.set(writer.field.jsonName, writer);
    this.fields.set(writer.field.name, writer);
  }

  write(reader: JsonReader, writer: WireWriter): OneofsSet {
    return this.writeMembers(reader, writer, false);
  }

  /** @param inAny skips "@type" */
  writeMembers(reader: JsonReader, writer: WireWriter, inAny: boolean): OneofsSet {
    let seenBits = 0;
    let seenMore: Set<unknown> | undefined;
    let oneofs: OneofsSet;
    reader.beginObject();
    for (let key = reader.nextKey(true); key !== undefined; key = reader.nextKey(false)) {
      const field = this.fields.get(key);
      reader.push(field === undefined ? key : field.field.jsonName);
      // The first 31 fields are tracked by bits, so that common messages need no set; others and unknown keys by a set.
      if (field !== undefined && field.index < 31) {
        const bit = 1 << field.index;
        if ((seenBits & bit) !== 0) throw reader.fault('duplicate key');
        seenBits |= bit;
      } else {
        seenMore ??= new Set();
        const id = field ?? key;
        if (seenMore.has(id)) throw reader.fault('duplicate key');
        seenMore.add(id);
      }
      if (field === undefined) {
        if (this.refuseUnknown && !(inAny && key === '@type')) throw reader.fault('unknown field');
        reader.skip();
      } else if (field.nullIsAbsent && reader.isNull()) {
        reader.null();
      } else {
        if (field.oneofIndex >= 0) {
          oneofs ??= new Array<string | undefined>(this.oneofCount);
          const other = oneofs[field.oneofIndex];
          if (other !== undefined) throw reader.fault(`cannot be set together with ${other}`);
          oneofs[field.oneofIndex] = field.field.jsonName;
        }
        field.write(reader, writer);
      }
      reader.pop();
    }
    return oneofs;
  }
}

/** @throws Error for groups, which proto3 JSON does not have */
export function refuseGroup(field: DescField): void {
  if ('delimitedEncoding' in field && field.delimitedEncoding) {
    throw new Error(`${field.parent.typeName}.${field.name}: group encoding is not supported`);
  }
}

function tagged(number: number, scalar: ScalarWriter): Write {
  const tag = tagOf(number, scalar.wireType);
  return (reader, writer) => {
    writer.uint32(tag);
    scalar.json(reader, writer);
  };
}

/** Whether null is a value of the field, its items or its map values. */
function takesNull(field: DescField): boolean {
  return field.message?.typeName === 'google.protobuf.Value' || field.enum?.typeName === 'google.protobuf.NullValue';
}

const INTEGER_KEY = /^(?:0|-?[1-9][0-9]*)$/;
const BOOL_KEY = /^(?:true|false)$/;

/**
 * Writes a map key with its tag. Only one spelling of each key is accepted, so that duplicates are equal texts.
 */
export function mapKeyWriter(type: ScalarType): (text: string, writer: WireWriter) => string | undefined {
  const scalar = scalarWriter(type);
  const tag = tagOf(1, scalar.wireType);
  const spelling = type === ScalarType.STRING ? undefined : type === ScalarType.BOOL ? BOOL_KEY : INTEGER_KEY;
  return (text, writer) => {
    if (spelling !== undefined && !spelling.test(text)) {
      return type === ScalarType.BOOL ? 'not true or false' : 'not an integer in range';
    }
    writer.uint32(tag);
    return scalar.text(text, writer);
  };
}
