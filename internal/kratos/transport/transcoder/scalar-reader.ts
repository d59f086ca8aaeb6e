import { type DescEnum, ScalarType } from '@bufbuild/protobuf';
import { floatText, numberText } from './number-text.js';
import type { WireReader } from './wire-reader.js';

/** Reads one value and returns its JSON. */
export type ReadValue = (reader: WireReader) => string;

export function zeroText(type: ScalarType): string {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return '""';
    case ScalarType.BOOL:
      return 'false';
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return '"0"';
    default:
      return '0';
  }
}

export function scalarReader(type: ScalarType): ReadValue {
  switch (type) {
    case ScalarType.INT32:
      return (r) => String(r.int32());
    case ScalarType.SINT32:
      return (r) => String(r.sint32());
    case ScalarType.UINT32:
      return (r) => String(r.uint32());
    case ScalarType.FIXED32:
      return (r) => String(r.fixed32());
    case ScalarType.SFIXED32:
      return (r) => String(r.sfixed32());
    case ScalarType.INT64:
      return (r) => `"${r.int64Text(true)}"`;
    case ScalarType.UINT64:
      return (r) => `"${r.int64Text(false)}"`;
    case ScalarType.SINT64:
      return (r) => `"${r.sint64Text()}"`;
    case ScalarType.FIXED64:
      return (r) => `"${r.fixed64Text()}"`;
    case ScalarType.SFIXED64:
      return (r) => `"${r.sfixed64Text()}"`;
    case ScalarType.FLOAT:
      return (r) => {
        const value = r.float();
        return Number.isFinite(value) ? floatText(value) : `"${value}"`;
      };
    case ScalarType.DOUBLE:
      return (r) => {
        const value = r.double();
        return Number.isFinite(value) ? numberText(value) : `"${value}"`;
      };
    case ScalarType.BOOL:
      return (r) => (r.bool() ? 'true' : 'false');
    case ScalarType.STRING:
      return (r) => JSON.stringify(r.string());
    case ScalarType.BYTES:
      return (r) => `"${r.base64()}"`;
  }
}

export function enumReader(desc: DescEnum): ReadValue {
  const texts = new Map(Object.keys(desc.value).map((number) => [Number(number), enumText(desc, Number(number))]));
  return (reader) => {
    const number = reader.int32();
    return texts.get(number) ?? String(number);
  };
}

export function enumText(desc: DescEnum, number: number): string {
  if (desc.typeName === 'google.protobuf.NullValue') return 'null';
  const value = desc.value[number];
  return value === undefined ? String(number) : JSON.stringify(value.name);
}
