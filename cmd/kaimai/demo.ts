import { Command, InvalidArgumentError } from 'commander';
import { Listr } from 'listr2';
import { statistics } from '../../internal/local/statistics.js';
import { table } from '../../internal/local/table.js';
import { DemoClient } from './demo/client.js';
import {
  createProduct,
  type DemoOptions,
  type DemoState,
  foreignEntry,
  grant,
  openSale,
  ordersComplete,
  ordinaryPurchase,
  purchasesBecomeOrders,
  rush,
} from './demo/run.js';

export const demoCommand = new Command('demo')
  .description('buy by both ways from the running system and show what happened at each step')
  .option('--stock <units>', 'units of the flash sale', count, 50)
  .option('--buyers <number>', 'buyers who rush for them', count, 200)
  .option('--timeout <seconds>', 'longest wait for all orders to be completed', count, 60)
  .action(async (given: { stock: number; buyers: number; timeout: number }) => {
    const options = { stock: given.stock, buyers: given.buyers, timeoutMs: given.timeout * 1000 };
    await demo(options);
  });

async function demo(options: DemoOptions): Promise<void> {
  const client = new DemoClient(required('KAIMAI_PRODUCT_HTTP'));
  const redisUrl = required('KAIMAI_REDIS_URL');
  const postgresUrl = required('KAIMAI_POSTGRES_URL');
  const state: DemoState = { productId: '', orders: [], seckills: [], steps: [] };
  await new Listr([
    { title: 'Put a plan on sale', task: () => createProduct(client, state) },
    { title: 'Ordinary purchase: order, payment', task: () => ordinaryPurchase(client, state) },
    { title: 'Direct purchase: somebody else adds to the stream', task: () => foreignEntry(redisUrl, state) },
    { title: `Open a flash sale of ${options.stock}`, task: () => openSale(client, state, options) },
    {
      title: `${options.buyers} buyers rush`,
      task: (_, task) =>
        rush(client, state, options, (text) => {
          task.output = text;
        }),
    },
    {
      title: 'Purchases become orders',
      task: (_, task) =>
        purchasesBecomeOrders(client, state, options, (text) => {
          task.output = text;
        }),
    },
    { title: 'An activity grants an instance', task: () => grant(client, state) },
    {
      title: 'Instances are created, orders completed',
      task: (_, task) =>
        ordersComplete(client, state, options, (text) => {
          task.output = text;
        }),
    },
  ]).run();
  const rows = state.steps.map((s) => [s.step, s.result, s.ids]);
  console.log(`\n${table(['step', 'what happened', 'look it up by'], rows)}\n`);
  console.log(await statistics(postgresUrl));
}

function required(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(`${name} is not set: run \`. .run/env\`, or start Kaimai by \`make run\``);
}

function count(text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= 1_000_000) return n;
  throw new InvalidArgumentError('a whole number from 1 to 1000000 is needed');
}
