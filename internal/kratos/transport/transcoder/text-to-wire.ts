import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { JsonReader } from './json-reader.js';
import type { JsonToWire } from './json-to-wire.js';
import { hasOwnJson, mapKeyWriter } from './json-to-wire.js';
import { enumWriter, type ScalarWriter, scalarWriter, Wire } from './scalar.js';
import { TranscodeError } from './transcode-error.js';
import {
  type Instant,
  parseDuration,
  parseFieldMaskLoosely,
  parseGoDuration,
  parseTimestamp,
} from './well-known-text.js';
import { writeFieldMask } from './well-known-writer.js';
import { tagOf, type WireWriter } from './wire-writer.js';

/** Writes a value from text, including the tag; returns an error message if the text is invalid. */
export type WriteText = (text: string, writer: WireWriter) => string | undefined;

/**
 * Converts text from a path or query parameter to a field, or to an item of a repeated field; undefined if the type has
 * no
 * text form.
 */
export function textWriter(field: DescField, codec: JsonToWire, maxJsonDepth: number): WriteText | undefined {
  if (field.fieldKind === 'map') return undefined;
  if (field.message !== undefined) return messageText(field.message, field.number, codec, maxJsonDepth);
  return taggedText(field.number, field.enum !== undefined ? enumWriter(field.enum) : scalarWriter(field.scalar));
}

/** Converts `field[key]=value` to a map entry; undefined if the map's values have no text form. */
export function mapEntryWriter(
  field: DescField & { fieldKind: 'map' },
  codec: JsonToWire,
  maxJsonDepth: number,
): ((key: string, text: string, writer: WireWriter) => string | undefined) | undefined {
  const writeKey = mapKeyWriter(field.mapKey);
  const writeValue =
    field.mapKind === 'message'
      ? messageText(field.message, 2, codec, maxJsonDepth)
      : taggedText(2, field.mapKind === 'enum' ? enumWriter(field.enum) : scalarWriter(field.scalar));
  if (writeValue === undefined) return undefined;
  const tag = tagOf(field.number, Wire.LENGTH);
  return (key, text, writer) => {
    writer.uint32(tag);
    const start = writer.begin();
    const keyFault = writeKey(key, writer);
    if (keyFault !== undefined) return `map key is ${keyFault}`;
    const fault = writeValue(text, writer);
    writer.end(start);
    return fault;
  };
}

/** Whether an empty text is a value of the field; for other types it counts as absent. */
export function takesEmptyText(field: DescField): boolean {
  const scalar = field.message === undefined ? field.scalar : field.message.fields[0]?.scalar;
  const isText = scalar === 9 || scalar === 12;
  return isText && (field.message === undefined || WRAPPERS.has(field.message.typeName));
}

const WRAPPERS = new Set(['google.protobuf.StringValue', 'google.protobuf.BytesValue']);

function taggedText(number: number, scalar: ScalarWriter): WriteText {
  const tag = tagOf(number, scalar.wireType);
  return (text, writer) => {
    writer.uint32(tag);
    return scalar.text(text, writer);
  };
}

function messageText(
  desc: DescMessage,
  number: number,
  codec: JsonToWire,
  maxJsonDepth: number,
): WriteText | undefined {
  if (!hasOwnJson(desc.typeName)) return undefined;
  switch (desc.typeName) {
    case 'google.protobuf.Timestamp':
      return delimitedText(number, (text, writer) =>
        instant(parseTimestamp(text), 'not an RFC 3339 timestamp in the years 1 to 9999', writer),
      );
    case 'google.protobuf.Duration':
      return delimitedText(number, (text, writer) =>
        instant(parseDuration(text) ?? parseGoDuration(text), 'not a duration such as 1.5s or 1m30s', writer),
      );
    case 'google.protobuf.FieldMask':
      return delimitedText(number, (text, writer) => {
        const paths = parseFieldMaskLoosely(text);
        if (paths === undefined) return 'not a field mask such as name,priceFen';
        writeFieldMask(paths, writer);
        return undefined;
      });
    case 'google.protobuf.Struct':
    case 'google.protobuf.Value':
    case 'google.protobuf.ListValue':
      return delimitedText(number, (text, writer) => {
        const reader = new JsonReader(text, maxJsonDepth);
        try {
          codec.message(desc).write(reader, writer);
          reader.end();
        } catch (err) {
          if (err instanceof TranscodeError) return err.message;
          throw err;
        }
        return undefined;
      });
    case 'google.protobuf.Any':
      return undefined;
    default: {
      const scalar = desc.fields[0]?.scalar;
      return scalar === undefined ? undefined : delimitedText(number, taggedText(1, scalarWriter(scalar)));
    }
  }
}

function delimitedText(number: number, write: WriteText): WriteText {
  const tag = tagOf(number, Wire.LENGTH);
  return (text, writer) => {
    writer.uint32(tag);
    const start = writer.begin();
    const fault = write(text, writer);
    writer.end(start);
    return fault;
  };
}

/** Zeros are written too, because a value from the path must replace one from the body. */
function instant(value: Instant | undefined, fault: string, writer: WireWriter): string | undefined {
  if (value === undefined) return fault;
  writer.uint32(tagOf(1, Wire.VARINT));
  writer.int64(value.seconds);
  writer.uint32(tagOf(2, Wire.VARINT));
  writer.int32(value.nanos);
  return undefined;
}
