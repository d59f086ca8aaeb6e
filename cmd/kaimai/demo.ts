import { Command, InvalidArgumentError } from 'commander';
import { Listr } from 'listr2';
import { statistics } from '../../internal/local/statistics.js';
import { table } from '../../internal/local/table.js';
import { openApi, openRedis } from './connections.js';
import { failedInstance } from './demo/failed-instance.js';
import { buyGoods } from './demo/goods.js';
import {
  createProduct,
  type DemoOptions,
  type DemoState,
  directEntry,
  grant,
  openSale,
  ordersComplete,
  ordinaryPurchase,
  purchasesBecomeOrders,
  rush,
} from './demo/run.js';
import { serverUrl } from './environment.js';

export const demoCommand = new Command('demo')
  .description('place ordinary and flash-sale orders in the running system and show the result of each step')
  .option('--stock <units>', 'units of the flash sale', count, 50)
  .option('--buyers <number>', 'buyers that compete for them', count, 200)
  .option('--timeout <seconds>', 'longest wait until all orders are completed', count, 60)
  .action(async (given: { stock: number; buyers: number; timeout: number }) => {
    const options = { stock: given.stock, buyers: given.buyers, timeoutMs: given.timeout * 1000 };
    await demo(options);
  });

async function demo(options: DemoOptions): Promise<void> {
  const client = openApi();
  const postgresUrl = serverUrl('POSTGRES');
  const state: DemoState = { productId: '', orders: [], seckills: [], steps: [] };
  // Without a terminal each update would be a line of its own.
  const progress = (update: (text: string) => void) => (process.stdout.isTTY ? update : () => {});
  await new Listr(
    [
      { title: 'Create a product', task: () => createProduct(client, state) },
      { title: 'Place and pay an ordinary order', task: () => ordinaryPurchase(client, state) },
      { title: 'Order three kinds of goods, ship them and confirm the receipt', task: () => buyGoods(client, state) },
      { title: 'Add a purchase to the stream directly (XADD)', task: () => directEntry(openRedis, state) },
      { title: `Open a flash sale of ${options.stock} units`, task: () => openSale(client, state, options) },
      {
        title: `Let ${options.buyers} buyers compete`,
        task: (_, task) =>
          rush(
            client,
            state,
            options,
            progress((text) => {
              task.output = text;
            }),
          ),
      },
      {
        title: 'Wait until the purchases are orders',
        task: (_, task) =>
          purchasesBecomeOrders(
            client,
            state,
            options,
            progress((text) => {
              task.output = text;
            }),
          ),
      },
      { title: 'Grant an instance', task: () => grant(client, state) },
      {
        title: 'Wait until the instances run and the orders are completed',
        task: (_, task) =>
          ordersComplete(
            client,
            state,
            options,
            progress((text) => {
              task.output = text;
            }),
          ),
      },
      {
        title: 'Refund an instance that fails, and sell its unit again',
        task: () => failedInstance(client, state, options),
      },
    ],
    { fallbackRenderer: 'simple' },
  ).run();
  const rows = state.steps.map((s) => [s.step, s.result, s.ids]);
  console.log(`\n${table(['step', 'result', 'look up'], rows)}\n`);
  console.log(await statistics(postgresUrl));
}

function count(text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= 1_000_000) return n;
  throw new InvalidArgumentError('expected a whole number from 1 to 1000000');
}
