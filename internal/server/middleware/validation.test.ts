import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import { CancelOrderRequest } from '../../../gen/order/v1/order.js';
import { CreateProductSpecRequest } from '../../../gen/product/v1/product.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import type { Call, Reply } from '../call.js';
import { validation } from './validation.js';

const { registry } = loadDescriptors();
const OK: Reply = { kind: 'unary', message: new Uint8Array() };

/** Sends a request in wire form through the middleware. */
function send(service: string, rpc: string, bytes: Uint8Array): Promise<Reply> {
  const method = registry.getService(service)?.methods.find((m) => m.name === rpc);
  assert.ok(method);
  const next = validation(registry)(async () => OK, method);
  return next({ method, bind: () => bytes } as unknown as Call);
}

describe('validation', () => {
  const cancel = (reason: string) =>
    send('order.v1.OrderService', 'CancelOrder', CancelOrderRequest.encode({ id: '1', reason }).finish());

  it('lets a request through that keeps its rules', async () => assert.equal(await cancel('too late'), OK));

  it('names the field that breaks a rule', () =>
    assert.rejects(cancel('x'.repeat(65)), (err) => isInvalidArgument(err) && err.violations[0]?.field === 'reason'));

  it('refuses text with a NUL, which the database would refuse at the end', () =>
    assert.rejects(cancel('a\0b'), (err) => isInvalidArgument(err) && err.violations[0]?.field === 'reason'));

  it('finds a NUL in a nested message and in the keys of a map', async () => {
    for (const configJson of [{ disk: { kind: 's\0d' } }, { 'di\0sk': 1 }]) {
      const spec = CreateProductSpecRequest.encode({ cpu: 1, memory: 1, gpu: 0, image: 'x', configJson }).finish();
      await assert.rejects(
        send('product.v1.ProductService', 'CreateProductSpec', spec),
        (err) => isInvalidArgument(err) && /^config_json\.fields/.test(err.violations[0]?.field ?? ''),
      );
    }
  });

  it('refuses bytes that are no such message', () =>
    assert.rejects(send('order.v1.OrderService', 'CancelOrder', Uint8Array.of(0x0a, 0x7f)), isInvalidArgument));
});
