import type { JsonReader } from './json-reader.js';
import { doubleOf } from './number-text.js';
import { Wire } from './scalar.js';
import { tagOf, type WireWriter } from './wire-writer.js';

// Contents of well-known messages in wire format.

export function writeInstant(seconds: number, nanos: number, writer: WireWriter): void {
  if (seconds !== 0) {
    writer.uint32(tagOf(1, Wire.VARINT));
    writer.int64(seconds);
  }
  if (nanos !== 0) {
    writer.uint32(tagOf(2, Wire.VARINT));
    writer.int32(nanos);
  }
}

export function writeFieldMask(paths: readonly string[], writer: WireWriter): void {
  for (const path of paths) {
    writer.uint32(tagOf(1, Wire.LENGTH));
    writer.string(path);
  }
}

export function writeStruct(reader: JsonReader, writer: WireWriter): void {
  const seen = new Set<string>();
  reader.beginObject();
  for (let key = reader.nextKey(true); key !== undefined; key = reader.nextKey(false)) {
    reader.pushKey(key);
    if (seen.has(key)) throw reader.fault('duplicate key');
    seen.add(key);
    writer.uint32(tagOf(1, Wire.LENGTH));
    const entry = writer.begin();
    writer.uint32(tagOf(1, Wire.LENGTH));
    writer.string(key);
    writer.uint32(tagOf(2, Wire.LENGTH));
    const value = writer.begin();
    writeValue(reader, writer);
    writer.end(value);
    writer.end(entry);
    reader.pop();
  }
}

export function writeListValue(reader: JsonReader, writer: WireWriter): void {
  let i = 0;
  reader.beginArray();
  for (let more = reader.nextItem(true); more; more = reader.nextItem(false)) {
    reader.push(i++);
    writer.uint32(tagOf(1, Wire.LENGTH));
    const start = writer.begin();
    writeValue(reader, writer);
    writer.end(start);
    reader.pop();
  }
}

export function writeValue(reader: JsonReader, writer: WireWriter): void {
  if (reader.isNull()) {
    reader.null();
    writer.uint32(tagOf(1, Wire.VARINT));
    writer.uint32(0);
  } else if (reader.isString()) {
    writer.uint32(tagOf(3, Wire.LENGTH));
    writer.string(reader.string());
  } else if (reader.isObject()) {
    writer.uint32(tagOf(5, Wire.LENGTH));
    const start = writer.begin();
    writeStruct(reader, writer);
    writer.end(start);
  } else if (reader.isArray()) {
    writer.uint32(tagOf(6, Wire.LENGTH));
    const start = writer.begin();
    writeListValue(reader, writer);
    writer.end(start);
  } else if (reader.isNumber()) {
    const token = reader.numberToken();
    const value = doubleOf(token)!;
    if (!Number.isFinite(value)) throw reader.fault('out of range');
    writer.uint32(tagOf(2, Wire.BIT64));
    writer.double(value);
  } else {
    const value = reader.boolean();
    writer.uint32(tagOf(4, Wire.VARINT));
    writer.bool(value);
  }
}
