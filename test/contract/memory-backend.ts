import type { Transaction } from '../../internal/biz/transaction.js';
import { MemoryHeldUnits } from '../support/memory/held-units.js';
import { MemoryInstanceRepo } from '../support/memory/instance.js';
import { MemoryOrderRepo } from '../support/memory/order.js';
import { MemoryOutbox } from '../support/memory/outbox.js';
import { MemoryPaymentRepo } from '../support/memory/payment.js';
import { MemoryProductRepo } from '../support/memory/product.js';
import { MemoryStore } from '../support/memory/store.js';
import type { Backend } from './backend.js';

/** The doubles of test/support/memory, on a store of their own. */
export async function openMemoryBackend(): Promise<Backend> {
  const store = new MemoryStore();
  const outbox = new MemoryOutbox(store);
  const orders = new MemoryOrderRepo(store);
  const units = new MemoryHeldUnits(store, outbox);
  return {
    transactions: store,
    products: new MemoryProductRepo(store),
    orders,
    payments: new MemoryPaymentRepo(store),
    instances: new MemoryInstanceRepo(store, outbox),
    units,
    topics: async (refId) => outbox.table.rows().flatMap((row) => (row.refId === refId ? [row.topic] : [])),
    insertSale: (sale) => units.insertSale({ ...sale, sold: 0n }),
    sell: async (tx, saleId) => {
      if (!(await units.hold(tx, saleId, 1))) throw new Error(`sale ${saleId} is sold out`);
    },
    sold: async (saleId) => units.sales.find(String(saleId))?.sold ?? -1n,
    insertInboxRow: (order, streamId) =>
      store.run(async (tx: Transaction) => void (await orders.inbox.insert(tx, { orderId: order.id, streamId }))),
    breakConnection: async (tx) => store.breakConnection(tx),
    loseCommitReply: (tx) => store.loseCommitReply(tx),
    close: async () => {},
  };
}
