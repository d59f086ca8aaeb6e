/**
 * The reference `rpc-limit`: grpc-js with the generated messages, cluster workers, and a handler that returns a
 * constant.
 */
import cluster from 'node:cluster';
import { parseArgs } from 'node:util';
import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { PurchaseReply_Code as Code, PurchaseReply, SeckillServiceService } from '../gen/seckill/v1/seckill.js';

const { values } = parseArgs({ options: { addr: { type: 'string' }, workers: { type: 'string', default: '1' } } });
const REPLY = PurchaseReply.fromPartial({
  code: Code.QUEUED,
  message: 'Purchase accepted; your order is being created',
  data: { seckillId: '1001-1700000000000-0' },
});

if (cluster.isPrimary) {
  for (let i = 0; i < Number(values.workers); i++) cluster.fork();
  process.once('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  const server = new Server({ 'grpc.max_concurrent_streams': 1_000 });
  const { purchase } = SeckillServiceService;
  const service: UntypedServiceImplementation = {
    purchase: (_call: unknown, callback: (err: null, reply: PurchaseReply) => void) => callback(null, REPLY),
  };
  server.addService({ purchase } as never, service);
  server.bindAsync(values.addr ?? '127.0.0.1:0', ServerCredentials.createInsecure(), (err) => {
    if (err) throw err;
  });
  process.once('SIGTERM', () => server.forceShutdown());
}
