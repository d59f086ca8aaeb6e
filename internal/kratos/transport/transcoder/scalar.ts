import { type DescEnum, ScalarType } from '@bufbuild/protobuf';
import type { JsonReader } from './json-reader.js';
import {
  doubleOf,
  INT32_MAX,
  INT32_MIN,
  INT64_MAX,
  INT64_MIN,
  integerOf,
  UINT32_MAX,
  UINT64_MAX,
} from './number-text.js';
import { parseBase64 } from './well-known-text.js';
import type { WireWriter } from './wire-writer.js';

/** Protobuf wire types. */
export const Wire = { VARINT: 0, BIT64: 1, LENGTH: 2, BIT32: 5 } as const;

/** Writes one value of a scalar or enum type, without its tag. */
export interface ScalarWriter {
  readonly wireType: number;
  /** From JSON. */
  json(reader: JsonReader, writer: WireWriter): void;
  /** From a path, a query parameter or a map key; returns an error message if the text is invalid. */
  text(text: string, writer: WireWriter): string | undefined;
}

type WriteInteger = (writer: WireWriter, value: number | bigint) => void;

class IntegerWriter implements ScalarWriter {
  constructor(
    readonly wireType: number,
    private readonly min: number | bigint,
    private readonly max: number | bigint,
    private readonly write: WriteInteger,
  ) {}

  json(reader: JsonReader, writer: WireWriter): void {
    const value = reader.integer();
    if (value < this.min || value > this.max) throw reader.fault(this.outOfRange());
    this.write(writer, value);
  }

  text(text: string, writer: WireWriter): string | undefined {
    const value = PLAIN_INTEGER.test(text) ? integerOf(text) : undefined;
    if (value === undefined) return 'not an integer in range';
    if (value < this.min || value > this.max) return this.outOfRange();
    this.write(writer, value);
    return undefined;
  }

  private outOfRange(): string {
    return `out of range: ${this.min} to ${this.max}`;
  }
}

const PLAIN_INTEGER = /^-?(?:0|[1-9][0-9]*)$/;

class FloatWriter implements ScalarWriter {
  readonly wireType: number;
  constructor(private readonly single: boolean) {
    this.wireType = single ? Wire.BIT32 : Wire.BIT64;
  }

  json(reader: JsonReader, writer: WireWriter): void {
    const quoted = reader.isString();
    const token = quoted ? reader.string() : reader.numberToken();
    const fault = this.number(token, quoted, writer);
    if (fault !== undefined) throw reader.fault(fault);
  }

  text(text: string, writer: WireWriter): string | undefined {
    return this.number(text, true, writer);
  }

  private number(token: string, named: boolean, writer: WireWriter): string | undefined {
    let value = named ? NON_FINITE.get(token) : undefined;
    if (value === undefined) {
      value = doubleOf(token);
      if (value === undefined) return 'not a number';
      if (!Number.isFinite(this.single ? Math.fround(value) : value)) return 'out of range';
    }
    if (this.single) writer.float(value);
    else writer.double(value);
    return undefined;
  }
}

const NON_FINITE = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
]);

const BOOL: ScalarWriter = {
  wireType: Wire.VARINT,
  json: (reader, writer) => writer.bool(reader.boolean()),
  text: (text, writer) => {
    const value = BOOL_TEXTS.get(text);
    if (value === undefined) return 'not true or false';
    writer.bool(value);
    return undefined;
  },
};

/** The texts that Go's ParseBool accepts, which grpc-gateway uses. */
const BOOL_TEXTS = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
]);

const STRING: ScalarWriter = {
  wireType: Wire.LENGTH,
  json: (reader, writer) => writer.string(reader.string()),
  text: (text, writer) => {
    writer.string(text);
    return undefined;
  },
};

const BYTES: ScalarWriter = {
  wireType: Wire.LENGTH,
  json: (reader, writer) => {
    const bytes = parseBase64(reader.string());
    if (bytes === undefined) throw reader.fault('not base64');
    writer.bytes(bytes);
  },
  text: (text, writer) => {
    const bytes = parseBase64(text);
    if (bytes === undefined) return 'not base64';
    writer.bytes(bytes);
    return undefined;
  },
};

const INT32 = new IntegerWriter(Wire.VARINT, INT32_MIN, INT32_MAX, (w, v) => w.int32(Number(v)));
const SINT32 = new IntegerWriter(Wire.VARINT, INT32_MIN, INT32_MAX, (w, v) => w.sint32(Number(v)));
const UINT32 = new IntegerWriter(Wire.VARINT, 0, UINT32_MAX, (w, v) => w.uint32(Number(v)));
const FIXED32 = new IntegerWriter(Wire.BIT32, 0, UINT32_MAX, (w, v) => w.fixed32(Number(v)));
const SFIXED32 = new IntegerWriter(Wire.BIT32, INT32_MIN, INT32_MAX, (w, v) => w.fixed32(Number(v)));
const INT64 = new IntegerWriter(Wire.VARINT, INT64_MIN, INT64_MAX, (w, v) => w.int64(v));
const UINT64 = new IntegerWriter(Wire.VARINT, 0n, UINT64_MAX, (w, v) => w.int64(v));
const SINT64 = new IntegerWriter(Wire.VARINT, INT64_MIN, INT64_MAX, (w, v) => w.sint64(v));
const FIXED64 = new IntegerWriter(Wire.BIT64, 0n, UINT64_MAX, (w, v) => w.fixed64(v));
const SFIXED64 = new IntegerWriter(Wire.BIT64, INT64_MIN, INT64_MAX, (w, v) => w.fixed64(v));
const FLOAT = new FloatWriter(true);
const DOUBLE = new FloatWriter(false);

export function scalarWriter(type: ScalarType): ScalarWriter {
  switch (type) {
    case ScalarType.INT32:
      return INT32;
    case ScalarType.SINT32:
      return SINT32;
    case ScalarType.UINT32:
      return UINT32;
    case ScalarType.FIXED32:
      return FIXED32;
    case ScalarType.SFIXED32:
      return SFIXED32;
    case ScalarType.INT64:
      return INT64;
    case ScalarType.UINT64:
      return UINT64;
    case ScalarType.SINT64:
      return SINT64;
    case ScalarType.FIXED64:
      return FIXED64;
    case ScalarType.SFIXED64:
      return SFIXED64;
    case ScalarType.FLOAT:
      return FLOAT;
    case ScalarType.DOUBLE:
      return DOUBLE;
    case ScalarType.BOOL:
      return BOOL;
    case ScalarType.STRING:
      return STRING;
    case ScalarType.BYTES:
      return BYTES;
  }
}

/** Enum values by name or number; google.protobuf.NullValue also by null. */
export function enumWriter(desc: DescEnum): ScalarWriter {
  const numbers = new Map<string, number>(desc.values.map((value) => [value.name, value.number]));
  const known = new Set(numbers.values());
  const isNullValue = desc.typeName === 'google.protobuf.NullValue';
  const check = (value: number | bigint): string | undefined => {
    if (value < INT32_MIN || value > INT32_MAX) return `out of range: ${INT32_MIN} to ${INT32_MAX}`;
    return desc.open || known.has(Number(value)) ? undefined : `not a value of ${desc.typeName}`;
  };
  return {
    wireType: Wire.VARINT,
    json: (reader, writer) => {
      if (isNullValue && reader.isNull()) {
        reader.null();
        writer.uint32(0);
        return;
      }
      if (reader.isString()) {
        const number = numbers.get(reader.string());
        if (number === undefined) throw reader.fault(`not a value of ${desc.typeName}`);
        writer.int32(number);
        return;
      }
      const value = reader.integer();
      const fault = check(value);
      if (fault !== undefined) throw reader.fault(fault);
      writer.int32(Number(value));
    },
    text: (text, writer) => {
      const value = numbers.get(text) ?? (PLAIN_INTEGER.test(text) ? integerOf(text) : undefined);
      if (value === undefined) return `not a value of ${desc.typeName}`;
      const fault = check(value);
      if (fault !== undefined) return fault;
      writer.int32(Number(value));
      return undefined;
    },
  };
}
