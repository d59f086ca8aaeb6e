import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import type { Admission, AdmissionState } from '../biz/seckill/admission.js';
import { type SalesState, StateCounts } from '../biz/state-counts.js';
import { SilentLogger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { stateWatch } from './state-watch.js';

class FakeCounts extends StateCounts {
  failing = false;
  state: SalesState = { byStatus: { SCHEDULED: 0, OPEN: 0, CLOSED: 0 }, lateToOpen: 0, lateToClose: 0, current: [] };

  override async orders() {
    return { PENDING: 1, PAID: 2, CANCELLED: 0, COMPLETED: 3, SHIPPED: 0, REFUNDING: 0 };
  }
  override async openRefunds() {
    if (this.failing) throw new Error('away');
    return { REQUESTED: 0, APPROVED: 4, FAILED: 1 };
  }
  override async deadLetters() {
    return { product: 5, resource: 0 };
  }
  override async sales(): Promise<SalesState> {
    return this.state;
  }
}

describe('stateWatch', () => {
  const loaded = { stock: 7n } as AdmissionState['loaded'];

  /** The metrics after some rounds. */
  async function watch(counts: StateCounts, state: (itemId: bigint) => Promise<AdmissionState>): Promise<string> {
    const registry = new Registry();
    let rounds = 0;
    let done = () => {};
    const all = new Promise<void>((resolve) => {
      done = resolve;
    });
    const counted = Object.create(counts) as StateCounts;
    // Asked last of all.
    counted.sales = async (limit) => {
      if (++rounds === 3) done();
      return counts.sales(limit);
    };
    const admission = { state } as Partial<Admission> as Admission;
    const loop = stateWatch(counted, admission, new Metrics(registry, 'shop'), new SilentLogger(), { intervalMs: 1 });
    await loop.start();
    await all;
    await loop.stop(AbortSignal.timeout(5_000));
    return registry.metrics();
  }

  it('exports orders, refunds, dead letters and the units of current sales', async () => {
    const counts = new FakeCounts();
    counts.state = {
      byStatus: { SCHEDULED: 2, OPEN: 1, CLOSED: 9 },
      lateToOpen: 1,
      lateToClose: 0,
      current: [
        { itemId: 1001n, status: 'OPEN', total: 10, sold: 3, segments: 1 },
        { itemId: 1002n, status: 'SCHEDULED', total: 20, sold: 0, segments: 1 },
      ],
    };
    const text = await watch(counts, async () => ({ loaded }) as AdmissionState);
    for (const line of [
      'shop_orders{status="COMPLETED"} 3',
      'shop_refunds{status="FAILED"} 1',
      'shop_dead_letters{domain="product"} 5',
      'shop_sales{status="CLOSED"} 9',
      'shop_sales_late{action="open"} 1',
      'shop_sale_status{item_id="1001",status="OPEN"} 1',
      'shop_sale_units{item_id="1001",kind="left"} 7',
      'shop_sale_units{item_id="1002",kind="total"} 20',
    ]) {
      assert.ok(text.split('\n').includes(line), `${line}\n${text}`);
    }
    assert.ok(!text.includes('item_id="1002",kind="left"'), 'a sale that is not open is not in Redis');
  });

  it('exports no number of what cannot be counted, and goes on with the rest', async () => {
    const counts = new FakeCounts();
    counts.failing = true;
    counts.state = { ...counts.state, current: [{ itemId: 1001n, status: 'OPEN', total: 10, sold: 3, segments: 1 }] };
    const text = await watch(counts, async () => {
      throw new Error('Redis is away');
    });
    assert.ok(!text.includes('shop_refunds{'));
    assert.match(text, /^shop_dead_letters\{domain="product"\} 5$/m);
    assert.match(text, /^shop_sale_units\{item_id="1001",kind="sold"\} 3$/m);
    assert.ok(!text.includes('kind="left"'));
  });
});
