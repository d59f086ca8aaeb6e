import assert from 'node:assert/strict';
import { type DescField, type DescMessage, fromJsonString, ScalarType, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { JsonReader } from './json-reader.js';
import { JsonToWire } from './json-to-wire.js';
import { libraryRegistry, messageType, plainJson, wire } from './testdata/library.js';
import { TranscodeError } from './transcode-error.js';
import { WireFault } from './wire-reader.js';
import { WireToJson } from './wire-to-json.js';
import { WireWriter } from './wire-writer.js';

const everything = messageType('Everything');
const registry = libraryRegistry();
const codec = new JsonToWire(registry, false);
const strict = new JsonToWire(registry, true);
const toJson = new WireToJson(registry);
const writer = new WireWriter();

function encode(text: string, by: JsonToWire = codec): Uint8Array {
  const reader = new JsonReader(text, 100);
  by.message(everything).write(reader, writer.reset());
  reader.end();
  return writer.finish();
}

/** JSON texts for a scalar type, including unusual spellings. */
function scalarText(type: ScalarType): fc.Arbitrary<string> {
  const quote = (value: string): string => JSON.stringify(value);
  const wide = (min: bigint, max: bigint): fc.Arbitrary<string> =>
    fc.tuple(fc.bigInt({ min, max }), fc.boolean()).map(([value, quoted]) => (quoted ? `"${value}"` : `${value}`));
  switch (type) {
    case ScalarType.STRING:
      return fc.oneof(
        fc.string({ unit: 'grapheme' }).map(quote),
        fc.string().map(quote),
        fc.constantFrom('"\\u8c37\\ud83d\\ude01\\n"', '"\\/"'),
      );
    case ScalarType.BYTES:
      return fc.uint8Array().map((bytes) => quote(Buffer.from(bytes).toString('base64')));
    case ScalarType.BOOL:
      return fc.boolean().map(String);
    case ScalarType.DOUBLE:
      return fc.double().map((value) => (Number.isFinite(value) ? String(value) : quote(String(value))));
    case ScalarType.FLOAT:
      return fc.float().map((value) => (Number.isFinite(value) ? String(value) : quote(String(value))));
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      // The reference implementation parses numbers as doubles, so only values that fit are unquoted.
      return fc.oneof(
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => `"${value}"`),
        wide(-(2n ** 53n) + 1n, 2n ** 53n - 1n),
      );
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.oneof(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => `"${value}"`),
        wide(0n, 2n ** 53n - 1n),
      );
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return wide(0n, 2n ** 32n - 1n);
    default:
      return wide(-(2n ** 31n), 2n ** 31n - 1n);
  }
}

const jsonText = fc.jsonValue({ depthSize: 'small' }).map((value) => JSON.stringify(value));
const jsonObject = fc.dictionary(fc.string(), fc.jsonValue()).map((value) => JSON.stringify(value));

function wellKnownText(name: string): fc.Arbitrary<string> | undefined {
  const nanos = fc.constantFrom('', '.5', '.123', '.123456', '.123456789', '.000000001');
  switch (name) {
    case 'google.protobuf.Timestamp':
      return fc
        .tuple(fc.date({ min: new Date(0), max: new Date('9999-12-31T00:00:00Z'), noInvalidDate: true }), nanos)
        .map(([date, fraction]) => `"${date.toISOString().slice(0, 19)}${fraction}Z"`);
    case 'google.protobuf.Duration':
      return fc
        .tuple(fc.boolean(), fc.integer({ min: 0, max: 315_576_000_000 - 1 }), nanos)
        .map(([negative, seconds, fraction]) => `"${negative ? '-' : ''}${seconds}${fraction}s"`);
    case 'google.protobuf.FieldMask':
      return fc.array(fc.constantFrom('a', 'fooBar', 'a.bC', 'x1')).map((paths) => `"${paths.join(',')}"`);
    case 'google.protobuf.Struct':
      return jsonObject;
    case 'google.protobuf.Value':
      return jsonText;
    case 'google.protobuf.ListValue':
      return fc.array(jsonText).map((items) => `[${items.join(',')}]`);
    case 'google.protobuf.Any':
      return fc.constantFrom(
        '{}',
        '{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}',
        '{"int32Value":5,"@type":"type.googleapis.com/transcoder.test.v1.Everything"}',
      );
    default:
      return undefined;
  }
}

function messageText(desc: DescMessage, depth: number): fc.Arbitrary<string> {
  const known = wellKnownText(desc.typeName);
  if (known !== undefined) return known;
  const wrapped = desc.typeName.endsWith('Value') ? desc.fields[0]?.scalar : undefined;
  if (desc.typeName.startsWith('google.protobuf.') && wrapped !== undefined) return scalarText(wrapped);
  // At most one member of each oneof, or the whole message is rejected.
  const fields = desc.fields.filter((field) => field.oneof === undefined || field === field.oneof.fields[depth % 7]);
  return fc
    .subarray(fields, { maxLength: Math.min(4, fields.length) })
    .chain((chosen) =>
      fc.tuple(
        ...chosen.map((field) =>
          fc
            .tuple(fieldText(field, depth), fc.boolean())
            .map(([text, camel]) => `${JSON.stringify(camel ? field.jsonName : field.name)}:${text}`),
        ),
      ),
    )
    .map((members) => `{${members.join(',')}}`);
}

function fieldText(field: DescField, depth: number): fc.Arbitrary<string> {
  const single = (): fc.Arbitrary<string> => {
    if (field.message !== undefined) return depth <= 0 ? fc.constant('{}') : messageText(field.message, depth - 1);
    if (field.enum !== undefined) {
      return field.enum.typeName === 'google.protobuf.NullValue'
        ? fc.constant('null')
        : fc.constantFrom('"POEM"', '"GENRE_UNSPECIFIED"', '1', '77');
    }
    return scalarText(field.scalar);
  };
  const leafless = depth <= 0 && field.message !== undefined;
  if (leafless && field.fieldKind === 'message') return wellKnownText(field.message.typeName) ?? fc.constant('null');
  switch (field.fieldKind) {
    case 'list':
      return leafless ? fc.constant('[]') : fc.array(single(), { maxLength: 3 }).map((items) => `[${items.join(',')}]`);
    case 'map': {
      if (leafless) return fc.constant('{}');
      const key =
        field.mapKey === ScalarType.STRING
          ? fc.string()
          : field.mapKey === ScalarType.BOOL
            ? fc.constantFrom('true', 'false')
            : fc.nat().map(String);
      return fc
        .uniqueArray(fc.tuple(key, single()), { maxLength: 3, selector: ([name]) => name })
        .map((entries) => `{${entries.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(',')}}`);
    }
    default:
      return single();
  }
}

describe('The JSON codec, compared with the reference,', () => {
  const message = messageText(everything, 3);

  it('parses JSON to the same message as the reference', () => {
    fc.assert(
      fc.property(message, (text) => {
        const expected = fromJsonString(everything, text, { registry });
        assert.deepEqual(plainJson(everything, encode(text)), plainJson(everything, toBinary(everything, expected)));
      }),
      { numRuns: 1000 },
    );
  });

  it('writes JSON that the reference parses as the same message', () => {
    fc.assert(
      fc.property(message, (text) => {
        const bytes = toBinary(everything, fromJsonString(everything, text, { registry }));
        const json = toJson.message(everything).json(bytes);
        assert.deepEqual(plainJson(everything, wire(everything, JSON.parse(json))), plainJson(everything, bytes));
        assert.deepEqual(plainJson(everything, encode(json)), plainJson(everything, bytes));
      }),
      { numRuns: 1000 },
    );
  });

  it('rejects invalid JSON as INVALID_ARGUMENT, and never accepts what the reference rejects', () => {
    const edit = fc.tuple(
      fc.nat(),
      fc.nat(3),
      fc.constantFrom('', '{', '}', '"', ',', '0', 'null', '\\', '[', ':', '-', 'e'),
    );
    fc.assert(
      fc.property(message, edit, (text, [at, cut, insert]) => {
        const place = at % (text.length + 1);
        // Through UTF-8, like bodies: it cannot represent a lone surrogate.
        const broken = Buffer.from(text.slice(0, place) + insert + text.slice(place + cut)).toString();
        let bytes: Uint8Array;
        try {
          bytes = encode(broken, strict);
        } catch (err) {
          assert.ok(err instanceof TranscodeError, String(err));
          return;
        }
        // We are exact where the reference rounds or rejects: numbers above 2^53, exponents in quotes.
        fc.pre(!/[0-9]{16}|[0-9]{7}e|"-?[0-9.]*e/.test(broken));
        const expected = toBinary(everything, fromJsonString(everything, broken, { registry }));
        // The reference normalizes type URLs.
        if (!broken.includes('@type')) {
          assert.deepEqual(plainJson(everything, bytes), plainJson(everything, expected));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('throws only WireFault for bytes that are not a message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          JSON.parse(toJson.message(everything).json(bytes));
        } catch (err) {
          assert.ok(err instanceof WireFault, String(err));
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('The wire format codec', () => {
  it('merges a message that is split into pieces and keeps the last member of a oneof', () => {
    const pieces = Buffer.concat([
      wire(everything, { nested: { int32Value: 1, int32List: [1] }, oneofString: 'a' }),
      wire(everything, { nested: { stringValue: 'b', int32List: [2] }, oneofInt32: 5 }),
    ]);
    const json = JSON.parse(toJson.message(everything).json(pieces)) as Record<string, Record<string, unknown>>;
    assert.equal(json.nested!.int32Value, 1);
    assert.equal(json.nested!.stringValue, 'b');
    assert.deepEqual(json.nested!.int32List, [1, 2]);
    assert.equal(json.oneofInt32, 5);
    assert.ok(!('oneofString' in json));
  });

  it('keeps the last of equal map keys', () => {
    const pieces = Buffer.concat([
      wire(everything, { stringMap: { a: '1', b: '2' } }),
      wire(everything, { stringMap: { a: '3' } }),
    ]);
    const json = JSON.parse(toJson.message(everything).json(pieces)) as { stringMap: unknown };
    assert.deepEqual(json.stringMap, { a: '3', b: '2' });
  });

  it('reads packed and unpacked lists, whatever is declared', () => {
    const packedAsUnpacked = Buffer.from([0xa8, 0x01, 1, 0xa8, 0x01, 2]);
    const unpackedAsPacked = Buffer.from([0xba, 0x05, 2, 3, 4]);
    const json = JSON.parse(toJson.message(everything).json(Buffer.concat([packedAsUnpacked, unpackedAsPacked])));
    assert.deepEqual(json.int32List, [1, 2]);
    assert.deepEqual(json.unpackedList, [3, 4]);
  });

  it('skips unknown fields of every wire type, also nested groups', () => {
    const unknown = [0xc0, 0x3e, 1, 0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8, 0xc2, 0x3e, 1, 9, 0xc5, 0x3e, 1, 2, 3, 4];
    const group = [0xc3, 0x3e, ...unknown, 0xcb, 0x3e, 0xcc, 0x3e, 0xc4, 0x3e];
    const json = JSON.parse(toJson.message(everything).json(Buffer.from([...unknown, ...group, 0x08, 5])));
    assert.equal(json.int32Value, 5);
    assert.throws(() => toJson.message(everything).json(Buffer.from(group.slice(0, -2))), WireFault);
    assert.throws(() => toJson.message(everything).json(Buffer.alloc(1000, 0x5b)), WireFault);
  });

  it('writes messages of any size', () => {
    for (const length of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
      const text = `{"nested":{"stringValue":"${'a'.repeat(length)}"}}`;
      assert.deepEqual(plainJson(everything, encode(text)), plainJson(everything, wire(everything, JSON.parse(text))));
    }
  });
});
