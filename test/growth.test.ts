import assert from 'node:assert/strict';
import { simulate } from '../bench/growth-admission.js';
import { quietCosts, readMeasured } from '../bench/growth-costs.js';
import { Cores, EventLoop, percentile, Simulation } from '../bench/growth-kernel.js';
import { masterOf } from '../bench/growth-redis.js';
import { simulateSettlement } from '../bench/growth-settlement.js';
import { Batcher } from '../internal/biz/batcher.js';

describe('The simulation of growth', () => {
  const form = { masters: 3, segments: 4, sales: 1, workers: 4, way: 'unary', ms: 60 } as const;

  it('runs events in the order of their times, and those of one time in the order in which they were added', async () => {
    const simulation = new Simulation(1);
    const seen: string[] = [];
    const at = (ms: number, name: string) => simulation.after(ms, () => seen.push(`${simulation.nowMs} ${name}`));
    for (const [ms, name] of [
      [3, 'd'],
      [1, 'a'],
      [2, 'b'],
      [2, 'c'],
      [9, 'too late'],
    ] as const)
      at(ms, name);
    await simulation.run(5);
    assert.deepEqual(seen, ['1 a', '2 b', '2 c', '3 d']);
  });

  it('lets promises and setImmediate of real code run before its clock goes on', async () => {
    const simulation = new Simulation(1);
    const calls: string[] = [];
    const batcher = new Batcher<string, string>({
      ...{ name: 'letters', maxBatch: 2, maxConcurrent: 1, maxQueued: 10 },
      run: async (letters) => {
        calls.push(`${simulation.nowMs} ${letters.join('')}`);
        await simulation.sleep(10);
        return letters;
      },
    });
    const add = (ms: number, letter: string) =>
      simulation.after(ms, () => {
        simulation.touch();
        void batcher.add(letter);
      });
    for (const [ms, letter] of [
      [0, 'a'],
      [1, 'b'],
      [1, 'c'],
      [2, 'd'],
    ] as const)
      add(ms, letter);
    await simulation.run(100);
    assert.deepEqual(calls, ['0 a', '10 bc', '20 d']);
  });

  it('gives the cores of a machine to its processes in turn', async () => {
    const simulation = new Simulation(1);
    const cores = new Cores(simulation, 2);
    const ended: string[] = [];
    for (const [name, ms] of [
      ['long', 4],
      ['short', 2],
      ['other', 2],
    ] as const) {
      cores.run(ms, () => ended.push(`${simulation.nowMs} ${name}`));
    }
    await simulation.run(100);
    assert.deepEqual(ended, ['3 short', '3 other', '5 long']);
    assert.equal(cores.busyMs, 8);
  });

  it('takes all that waits for an event loop in one turn, with one wait for the disk', async () => {
    const simulation = new Simulation(1);
    const loop = new EventLoop(simulation, new Cores(simulation, 1), 1, () => 10);
    const ended: string[] = [];
    const [one, other] = [{}, {}];
    loop.add(2, () => ended.push(`${simulation.nowMs} first`), one);
    for (const [name, source] of [
      ['second', one],
      ['third', one],
      ['fourth', other],
    ] as const) {
      simulation.after(5, () => loop.add(2, () => ended.push(`${simulation.nowMs} ${name}`), source));
    }
    await simulation.run(100);
    assert.deepEqual(ended, ['13 first', '31 second', '31 third', '31 fourth']);
    assert.equal(loop.cpuMs, 11);
    assert.equal(loop.busyMs, 31);
  });

  it('draws times with the percentiles that it is given', () => {
    const simulation = new Simulation(7);
    const times = Array.from({ length: 20_000 }, () => simulation.logNormal({ p50: 0.4, p99: 1.5 }));
    assert.ok(Math.abs(percentile(times, 0.5) - 0.4) < 0.02);
    assert.ok(Math.abs(percentile(times, 0.99) - 1.5) < 0.15);
  });

  it('gives the same figures for the same seed, and others for another one', async () => {
    const costs = quietCosts(readMeasured());
    const load = { ...form, perSecond: 20_000 };
    const figures = await simulate(load, costs, 1);
    assert.deepEqual(await simulate(load, costs, 1), figures);
    assert.notDeepEqual(await simulate(load, costs, 2), figures);
  });

  it('sells every unit once, and says SOLD_OUT to the rest, however many segments a sale has', async () => {
    const costs = quietCosts(readMeasured());
    for (const way of ['unary', 'stream'] as const) {
      for (const segments of [1, 3, 8]) {
        const { queued, soldOut } = await simulate(
          { ...form, way, segments, perSecond: 20_000, units: 500, ms: 200 },
          costs,
        );
        assert.equal(queued, 500, `${way}, ${segments} segments`);
        assert.ok(soldOut > 0);
      }
    }
  });

  it('places a sale of four segments on each of three masters', () => {
    const masters = [0, 1, 2, 3].map((segment) => masterOf(1_000n, segment, 3));
    assert.deepEqual([...new Set(masters)].sort(), [0, 1, 2]);
  });

  it('settles one sale by one backend at a time, however many consumers and cores there are', async () => {
    const costs = quietCosts(readMeasured());
    const settled = { segments: 1, masters: 3, cores: 16, ms: 2_000 };
    const one = await simulateSettlement({ ...settled, sales: 1, consumers: 8 }, costs);
    const four = await simulateSettlement({ ...settled, sales: 4, consumers: 8 }, costs);
    assert.ok(one.lock > 0.95);
    assert.ok(one.perSecond < 1e3 / costs.settlement.postgres);
    assert.ok(four.perSecond > 3 * one.perSecond);
  });
});
