import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, constants } from 'node:http2';
import { Sale, SeckillServiceService } from '../../../../gen/seckill/v1/seckill.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import type { CallContext } from '../call-context.js';
import { Dispatcher, ServiceBinding } from '../dispatcher.js';
import { GrpcListener } from './listener.js';

describe('A gRPC stream whose caller does not read', () => {
  it('is reset after the write timeout, and ends its source', async () => {
    let ended: (reason: unknown) => void = () => {};
    const end = new Promise((resolve) => {
      ended = resolve;
    });
    const watchSale = async function* (_: unknown, ctx: CallContext) {
      try {
        for (;;) yield Sale.create({ name: 'x'.repeat(10_000) });
      } finally {
        ended(ctx.signal.reason);
      }
    };
    const binding = new ServiceBinding({ watchSale: SeckillServiceService.watchSale }, { watchSale });
    const dispatcher = new Dispatcher(loadDescriptors().registry, [binding], []);
    const listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65_536, writeTimeoutMs: 50 }, dispatcher);
    await listener.start();
    const session = connect(`http://127.0.0.1:${listener.port}`);
    try {
      const stream = session.request({
        ':method': 'POST',
        ':path': SeckillServiceService.watchSale.path,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stream.on('error', () => {});
      // Five bytes before an empty message; the replies stay unread.
      stream.end(Buffer.alloc(5));
      await once(stream, 'close');
      assert.equal(stream.rstCode, constants.NGHTTP2_CANCEL);
      assert.match(String(await end), /the caller has read nothing for 50 ms/);
    } finally {
      session.destroy();
      await listener.stop(AbortSignal.timeout(2_000));
    }
  });
});
