import assert from 'node:assert/strict';
import { freshId, type OpenBackend, useBackend } from './backend.js';

export function outboxContract(name: string, open: OpenBackend): void {
  describe(`Outbox ${name}`, () => {
    const backend = useBackend(open);
    const rowOf = (topic: string) => ({ topic, refId: freshId(), payload: Buffer.from('{}') });

    it('appends every row under its own topic', async () => {
      const rows = [rowOf('a.topic'), rowOf('another.topic')];
      await backend.it.transactions.run((tx) => backend.it.outbox.append(tx, rows));
      for (const { topic, refId } of rows) assert.deepEqual(await backend.it.topics(refId), [topic]);
    });

    it('appends nothing when it is given no rows', async () => {
      await backend.it.transactions.run((tx) => backend.it.outbox.append(tx, []));
    });

    it('keeps no row of a transaction that is rolled back', async () => {
      const row = rowOf('a.topic');
      await assert.rejects(
        backend.it.transactions.run(async (tx) => {
          await backend.it.outbox.append(tx, [row]);
          throw new Error('undone');
        }),
      );
      assert.deepEqual(await backend.it.topics(row.refId), []);
    });
  });
}
