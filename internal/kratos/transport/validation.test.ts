import assert from 'node:assert/strict';
import { create, type DescField, type DescMessage, hasOption, ScalarType, toBinary } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import fc from 'fast-check';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import { CancelOrderRequest, ListOrdersRequest } from '../../../gen/order/v1/order.js';
import { CreateProductSpecRequest, ListProductsRequest } from '../../../gen/product/v1/product.js';
import { PurchaseRequest } from '../../../gen/seckill/v1/seckill.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import { quickRules } from './quick-rules.js';
import { validation } from './validation.js';

const { registry } = loadDescriptors();

function methodOf(service: string, rpc: string) {
  const method = registry.getService(service)?.methods.find((m) => m.name === rpc);
  assert.ok(method);
  return method;
}

describe('Request validation', () => {
  const rulesOf = validation(registry);
  const orderRules = rulesOf(methodOf('order.v1.OrderService', 'CancelOrder'));
  const cancel = (reason: string) => {
    const bytes = CancelOrderRequest.encode({ id: '1', reason }).finish();
    orderRules?.(bytes, CancelOrderRequest.decode(bytes));
  };
  const names = (field: string | RegExp) => (err: unknown) => {
    assert.ok(isInvalidArgument(err));
    assert.match(err.violations[0]?.field ?? '', new RegExp(field));
    return true;
  };

  it('accepts a request that conforms to its rules', () => cancel('too late'));

  it('names the field that violates a rule', () => assert.throws(() => cancel('x'.repeat(65)), names('^reason$')));

  it('rejects text with a NUL, which the database would refuse', () =>
    assert.throws(() => cancel('a\0b'), names('^reason$')));

  it('finds a NUL in nested messages and in map keys', () => {
    const check = rulesOf(methodOf('product.v1.ProductService', 'CreateProductSpec'));
    for (const configJson of [{ disk: { kind: 's\0d' } }, { 'di\0sk': 1 }]) {
      const spec = { cpu: 1, memory: 1, gpu: 0, image: 'x', configJson };
      const bytes = CreateProductSpecRequest.encode(spec).finish();
      assert.throws(() => check?.(bytes, CreateProductSpecRequest.decode(bytes)), names(/^config_json\.fields/));
    }
  });

  it('rejects bytes that are not a valid message', () =>
    assert.throws(() => orderRules?.(Uint8Array.of(0x0a, 0x7f), {}), isInvalidArgument));
});

describe('Quick rules', () => {
  const fieldRules = registry.getExtension('buf.validate.field');
  assert.ok(fieldRules);
  const validator = createValidator({ registry });
  const hasRules = (message: DescMessage) => message.fields.some((f) => hasOption(f, fieldRules));
  const of = (message: DescMessage) => quickRules(message, fieldRules, hasRules);

  const subjects = [
    { input: methodOf('seckill.v1.SeckillService', 'Purchase').input, decode: PurchaseRequest.decode },
    { input: methodOf('product.v1.ProductService', 'ListProducts').input, decode: ListProductsRequest.decode },
    { input: methodOf('order.v1.OrderService', 'ListOrders').input, decode: ListOrdersRequest.decode },
  ];
  for (const { input, decode } of subjects) {
    it(`accept a ${input.typeName} only if the validation library does, and accept a plain one`, () => {
      const quick = of(input);
      assert.ok(quick);
      let good = 0;
      fc.assert(
        fc.property(fc.record(Object.fromEntries(input.fields.map((f) => [f.localName, arbitraryOf(f)]))), (fields) => {
          const message = create(input, fields as never);
          const request = decode(toBinary(input, message)) as unknown as Readonly<Record<string, unknown>>;
          if (!quick(request)) return;
          good++;
          assert.equal(validator.validate(input, message).kind, 'valid');
        }),
        { numRuns: 2_000 },
      );
      assert.ok(good > 0);
    });
  }

  it('leave a message with other rules to the library', () => {
    assert.equal(of(methodOf('seckill.v1.SeckillService', 'GetPurchase').input), undefined);
  });
});

/** Values near common bounds, and far from them. */
function arbitraryOf(field: DescField): fc.Arbitrary<unknown> {
  const numbers = fc.oneof(
    fc.constantFrom(-1, 0, 1, 99, 100, 101, 9_999, 10_000, 10_001, 999_999, 1_000_000, 1_000_001, 2 ** 31 - 1),
    fc.nat(200),
  );
  const value = (): fc.Arbitrary<unknown> => {
    if (field.fieldKind === 'enum') return fc.integer({ min: 0, max: 9 });
    if (field.fieldKind !== 'scalar') return fc.constant(undefined);
    switch (field.scalar) {
      case ScalarType.STRING:
        return fc.oneof(fc.string({ unit: 'grapheme', maxLength: 70 }), fc.constant('é😀'.repeat(30)));
      case ScalarType.INT64:
        return fc.oneof(numbers.map(BigInt), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
      default:
        return numbers;
    }
  };
  return field.presence === 1 ? fc.option(value(), { nil: undefined }) : value();
}
