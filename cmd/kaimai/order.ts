import { Command } from 'commander';
import { orderTimeline } from '../../internal/data/postgres/operations.js';
import { table } from '../../internal/local/table.js';
import { openPostgres } from './connections.js';

export const orderCommand = new Command('order').description('look at orders');

orderCommand
  .command('show <number>')
  .description('show the life of an order on one time line: stream, order, payment, queue, instance, refund')
  .action(async (number: string) => {
    const id = /^(?:ORD)?([1-9][0-9]{0,18})$/i.exec(number)?.[1];
    if (id === undefined) throw new Error(`${number} is not an order number, such as ORD123`);
    const db = openPostgres('order', 'kaimai_product');
    try {
      const events = await orderTimeline(db, BigInt(id));
      if (events.length === 0) throw new Error(`there is no order ${number}`);
      const rows = events.map((event) => [event.at.toISOString(), event.source, event.text]);
      console.log(table(['time', 'where', 'what'], rows));
    } finally {
      await db.close();
    }
  });
