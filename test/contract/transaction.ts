import assert from 'node:assert/strict';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import type { Product } from '../../internal/biz/catalog/product.js';
import { together } from '../../internal/biz/transaction.js';
import { insertProduct, latch, newOrder, type OpenBackend, useBackend } from './backend.js';

export function transactionRunnerContract(name: string, open: OpenBackend): void {
  describe(`TransactionRunner ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });
    const stored = async (id: bigint) => (await backend.it.orders.find(id, undefined)) !== undefined;

    it('commits the writes of the work and returns its result', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      const result = await transactions.run(async (tx) => {
        await orders.insert(tx, [order], 'user');
        return 'done';
      });
      assert.equal(result, 'done');
      assert.equal(await stored(order.id), true);
    });

    it('rolls back when the work throws, and rethrows the error', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      const thrown = new Error('decided otherwise');
      let runs = 0;
      await assert.rejects(
        transactions.run(async (tx) => {
          runs++;
          await orders.insert(tx, [order], 'user');
          throw thrown;
        }),
        (err) => err === thrown,
      );
      assert.equal(runs, 1);
      assert.equal(await stored(order.id), false);
    });

    it('hides a write from other transactions until it is committed', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      await transactions.run(async (tx) => {
        await orders.insert(tx, [order], 'user');
        assert.ok(await orders.find(order.id, undefined, tx));
        assert.equal(await stored(order.id), false);
        await transactions.run(async (other) => {
          assert.equal(await orders.find(order.id, undefined, other), undefined);
        });
      });
      assert.equal(await stored(order.id), true);
    });

    it('shows what other transactions have committed since it began', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      await transactions.run(async (tx) => {
        assert.equal(await orders.find(order.id, undefined, tx), undefined);
        await transactions.run((other) => orders.insert(other, [order], 'user'));
        assert.ok(await orders.find(order.id, undefined, tx));
      });
    });

    it('does not report a transaction as committed if a statement failed and the work caught the error', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      await assert.rejects(
        transactions.run(async (tx) => {
          await orders.insert(tx, [order], 'user');
          // The same id again: refused by the primary key.
          await orders.insert(tx, [order], 'user').catch(() => {});
        }),
      );
      assert.equal(await stored(order.id), false);
    });

    it('runs statements in the order in which they were begun together', async () => {
      const { transactions, orders } = backend.it;
      const order = newOrder(plan);
      const [inserted, found] = await transactions.run((tx) =>
        together(orders.insert(tx, [order], 'user'), orders.find(order.id, undefined, tx)),
      );
      assert.equal(inserted, true);
      assert.equal(found?.id, order.id);
    });

    it('throws the first failure of statements begun together when all of them have ended, and rolls back', async () => {
      const { transactions, orders } = backend.it;
      const [order, other] = [newOrder(plan), newOrder(plan)];
      const ended: string[] = [];
      const noted = <T>(name: string, statement: Promise<T>) => statement.finally(() => ended.push(name));
      await assert.rejects(
        transactions.run((tx) =>
          together(
            noted('first', orders.insert(tx, [order], 'user')),
            // The same id again: refused by the primary key.
            noted('refused', orders.insert(tx, [order], 'user')).catch((cause: unknown) => {
              throw new Error('the cause', { cause });
            }),
            noted('behind it', orders.insert(tx, [other], 'user')),
          ),
        ),
        /the cause/,
      );
      assert.deepEqual(ended, ['first', 'refused', 'behind it']);
      assert.equal(await stored(order.id), false);
      assert.equal(await stored(other.id), false);
      // The connection is usable again.
      assert.equal(await transactions.run((tx) => orders.insert(tx, [other], 'user')), true);
    });

    it('resolves a deadlock by running one of the two transactions again', async () => {
      const { transactions, orders } = backend.it;
      const [a, b] = [newOrder(plan), newOrder(plan)];
      await transactions.run((tx) => orders.insert(tx, [a, b], 'user'));
      const both = [latch(), latch()] as const;
      let runs = 0;
      const cross = (first: bigint, second: bigint, mine: 0 | 1) =>
        transactions.run(async (tx) => {
          runs++;
          await orders.lock(tx, first, undefined);
          both[mine].open();
          await both[mine === 0 ? 1 : 0].opened;
          await orders.lock(tx, second, undefined);
        });
      await Promise.all([cross(a.id, b.id, 0), cross(b.id, a.id, 1)]);
      assert.equal(runs, 3);
    });

    it('runs the work again when the connection is lost before COMMIT, and keeps nothing of the first run', async () => {
      const { transactions, orders } = backend.it;
      const made = [newOrder(plan), newOrder(plan)];
      let runs = 0;
      await transactions.run(async (tx) => {
        const order = made[runs++]!;
        await orders.insert(tx, [order], 'user');
        if (runs === 1) await backend.it.breakConnection(tx);
        await orders.find(order.id, undefined, tx);
      });
      assert.equal(runs, 2);
      assert.deepEqual([await stored(made[0]!.id), await stored(made[1]!.id)], [false, true]);
    });

    it('gives up after a bounded number of runs', async () => {
      const { transactions, orders } = backend.it;
      let runs = 0;
      await assert.rejects(
        transactions.run(async (tx) => {
          runs++;
          await backend.it.breakConnection(tx);
          await orders.find(1n, undefined, tx);
        }),
        isUnavailable,
      );
      assert.equal(runs, 5);
    });

    it('runs the work again after a lost reply to COMMIT only if it is idempotent', async () => {
      const { transactions, orders } = backend.it;
      for (const idempotent of [true, false]) {
        const order = newOrder(plan, { requestId: 'once' });
        let runs = 0;
        const done = transactions.run(
          async (tx) => {
            runs++;
            if (runs === 1) backend.it.loseCommitReply(tx);
            return orders.insert(tx, [order], 'user');
          },
          { idempotent },
        );
        if (idempotent) assert.equal(await done, false, 'the first run stored it');
        else await assert.rejects(done, isUnavailable);
        assert.equal(runs, idempotent ? 2 : 1);
        assert.equal(await stored(order.id), true);
      }
    });
  });
}
