import assert from 'node:assert/strict';
import { undocumentedReasons } from './support/documented-reasons.js';

describe('The reasons that a process returned', () => {
  const line = (operation: string, reason: string) =>
    `kaimai_server_handled_total{operation="${operation}",transport="http",code="NOT_FOUND",reason="${reason}"} 3`;

  it('are found undocumented if the API documents of their operation do not list them', () => {
    const metrics = [
      line('/order.v1.OrderService/CreateOrder', 'PRODUCT_NOT_FOUND'),
      line('/order.v1.OrderService/CreateOrder', 'SALE_NOT_FOUND'),
      line('/order.v1.OrderService/CreateOrder', 'UNAUTHENTICATED'),
      line('/instance.v1.InstanceService/ReportInstance', 'INSTANCE_REQUEST_NOT_FOUND'),
      line('/instance.v1.InstanceService/ReportInstance', 'PRODUCT_NOT_FOUND'),
      line('/product.v1.ProductService/GetProduct', ''),
      line('/grpc.health.v1.Health/Check', 'SALE_NOT_FOUND'),
    ].join('\n');
    assert.deepEqual(undocumentedReasons(metrics), [
      '/order.v1.OrderService/CreateOrder SALE_NOT_FOUND',
      '/instance.v1.InstanceService/ReportInstance PRODUCT_NOT_FOUND',
    ]);
  });

  it('do not count if no call ended with them', () => {
    const metrics = line('/order.v1.OrderService/CreateOrder', 'SALE_NOT_FOUND').replace(/3$/, '0');
    assert.deepEqual(undocumentedReasons(metrics), []);
  });
});
