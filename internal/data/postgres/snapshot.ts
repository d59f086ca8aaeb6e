import type { Transaction } from '../../biz/transaction.js';
import type { Postgres, Statement } from './postgres.js';

const SNAPSHOT: Statement = {
  name: 'snapshot',
  text: 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY',
};

/** Runs `work` in a read-only transaction whose statements all see the data of one moment. */
export function onSnapshot<T>(db: Postgres, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.run(async (tx) => {
    await db.query(SNAPSHOT, [], tx);
    return work(tx);
  });
}
