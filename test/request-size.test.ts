import assert from 'node:assert/strict';
import { type DescField, type DescMessage, getOption, ScalarType } from '@bufbuild/protobuf';
import { isReflectMessage, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { PurchaseBatchRequest } from '../gen/seckill/v1/seckill.js';
import { DEFAULTS } from '../internal/conf/defaults.js';
import { loadDescriptors } from '../internal/conf/descriptors.js';

describe('The limits on the size of a request', () => {
  const { registry } = loadDescriptors();
  const extension = registry.getExtension('buf.validate.field');
  assert.ok(extension);
  const { http, grpc } = DEFAULTS.server as Record<'http' | 'grpc', Record<string, number>>;
  /** Tag and value of a number; UTF-8 bytes of a character; bytes of a text that a pattern or a service limits. */
  const NUMBER = 11;
  const CHARACTER = 4;
  const OTHER_TEXT = 512;

  const within = (rules: ReflectMessage | undefined, name: string): unknown => {
    const field = rules?.desc.fields.find((f) => f.name === name);
    return field && rules?.isSet(field) ? rules.get(field) : undefined;
  };
  const rulesOf = (rules: ReflectMessage | undefined, kind: string) => {
    const given = within(rules, kind);
    return isReflectMessage(given) ? given : undefined;
  };

  /** The size in wire format of the largest message that the rules accept. */
  function largest(message: DescMessage, seen: readonly DescMessage[] = []): number {
    if (seen.includes(message)) return 0;
    return message.fields.reduce((sum, field) => {
      const rules = reflect(extension!.message!, getOption(field, extension!) as never);
      const list = rulesOf(rules, field.fieldKind === 'list' ? 'repeated' : 'map');
      const count = Number(within(list, field.fieldKind === 'list' ? 'max_items' : 'max_pairs') ?? 1);
      const own = list ? rulesOf(list, field.fieldKind === 'list' ? 'items' : 'values') : rules;
      return sum + count * largestOne(field, own, [...seen, message]);
    }, 0);
  }

  function largestOne(field: DescField, rules: ReflectMessage | undefined, seen: readonly DescMessage[]): number {
    if (field.message && field.fieldKind !== 'map') return largest(field.message, seen) + 4;
    const scalar = 'scalar' in field ? field.scalar : undefined;
    if (scalar !== ScalarType.STRING && scalar !== ScalarType.BYTES) return NUMBER;
    const text = rulesOf(rules, 'string') ?? rulesOf(rules, 'bytes');
    const bytes = within(text, 'max_bytes');
    const characters = within(text, 'max_len');
    if (bytes !== undefined) return Number(bytes) + 4;
    return characters === undefined ? OTHER_TEXT : CHARACTER * Number(characters) + 4;
  }

  it('let every request pass that the rules of its proto accept', () => {
    const methods = [...registry.files].filter((f) => /^[a-z]+\/v1\//.test(f.name)).flatMap((f) => f.services);
    const sizes = new Map(methods.flatMap((s) => s.methods).map((m) => [m.name, largest(m.input)]));
    assert.ok((sizes.get('PurchaseBatch') ?? 0) > 200_000);
    const over = [...sizes].filter(([, size]) => size > Math.min(grpc.maxMessageBytes!, http.maxBodyBytes!));
    assert.deepEqual(over, []);
  });

  it('let 1,000 purchases of a batch pass, in wire format and as JSON', () => {
    const purchase = { userId: 'f'.repeat(36), quantity: 10_000, requestId: 'r'.repeat(64) };
    const batch = { itemId: 9_223_372_036_854_775_807n, purchases: Array.from({ length: 1_000 }, () => purchase) };
    assert.ok(PurchaseBatchRequest.encode(batch).finish().length <= grpc.maxMessageBytes!);
    const json = JSON.stringify(PurchaseBatchRequest.toJSON(batch));
    assert.ok(json.length <= http.maxBodyBytes!, `${json.length} bytes`);
  });
});
