import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { OutcomeKind } from '../biz/seckill/settlement-state.js';

/** Each is exported as 0 before it occurs, because an alert on a rate does not see a counter that begins with 1. */
const OUTCOMES: Readonly<Record<OutcomeKind, 0>> = { ORDER: 0, REJECTED: 0, DEAD: 0 };

export class SeckillConsumerMetrics {
  readonly entries: Counter<'outcome'>;
  readonly claimed: Counter;
  readonly streams: Gauge;
  readonly faulty: Gauge<'item_id'>;
  readonly seconds: Histogram;

  constructor(registry: Registry) {
    const registers = [registry];
    this.entries = new Counter({
      name: 'kaimai_seckill_entries_total',
      help: 'Stream entries settled, by outcome',
      labelNames: ['outcome'],
      registers,
    });
    for (const [outcome, none] of Object.entries(OUTCOMES)) this.entries.inc({ outcome }, none);
    this.claimed = new Counter({
      name: 'kaimai_seckill_claimed_total',
      help: 'Stream entries taken over from other consumers',
      registers,
    });
    this.streams = new Gauge({
      name: 'kaimai_seckill_streams',
      help: 'Streams that are read; every worker reads all of them',
      aggregator: 'max',
      registers,
    });
    this.faulty = new Gauge({
      name: 'kaimai_seckill_faulty_stream',
      help: '1 for each stream that is set aside because reading or settling it fails',
      labelNames: ['item_id'],
      // Several workers that meet the same fault report one faulty stream.
      aggregator: 'max',
      registers,
    });
    this.seconds = new Histogram({
      name: 'kaimai_seckill_batch_seconds',
      help: 'Time from reading a batch to removing its entries from the stream',
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    });
  }
}
