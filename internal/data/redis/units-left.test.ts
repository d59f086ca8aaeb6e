import assert from 'node:assert/strict';
import { isSaleUnavailable, saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { AdmissionState, LoadedSale } from '../../biz/seckill/admission.js';
import { REAL_PACE } from './pace.js';
import type { UnitMove } from './unit-moves.js';
import { unitsLeft } from './units-left.js';

const NOW = new Date(0);
const LIMIT_MS = 20;
const HANGS = new Promise<never>(() => {});

interface Segment {
  readonly stock: bigint;
  readonly epoch?: bigint;
  readonly unreadable?: readonly string[];
  readonly moves?: readonly UnitMove[];
}

/** What is left of a sale whose segments answer so. @param arrived ids of moves */
function left(segments: readonly (Segment | Promise<never>)[], arrived: (move: UnitMove) => Promise<boolean>) {
  const sale = { itemId: 1n, epoch: 3n, segments: segments.length };
  const states = segments.map((segment) => ({
    state: async () => {
      const { epoch = 3n, unreadable = [] } = await segment;
      return { now: NOW, unreadable, loaded: { epoch } as LoadedSale } as AdmissionState;
    },
  }));
  const moves = {
    level: async (_: unknown, k: number) => {
      const { stock, moves: noted = [] } = await segments[k]!;
      return { segment: k, stock, movedIn: 0, moves: noted };
    },
    hasArrived: (_: unknown, move: UnitMove) => arrived(move),
  };
  return unitsLeft(sale, states, moves, (work) => REAL_PACE.waitFor(work, LIMIT_MS));
}

describe('The units left of a sale in segments', () => {
  const away = () => Promise.reject(saleUnavailable('planted'));
  const noMove = async () => assert.fail('no move is under way');

  it('are those of all segments while all of them answer', async () => {
    assert.deepEqual(await left([{ stock: 3n }, { stock: 4n }], noMove), { now: NOW, units: 7n, complete: true });
    assert.deepEqual(await left([{ stock: -2n }, { stock: 0n }], noMove), { now: NOW, units: 0n, complete: true });
  });

  it('are those of the others while a segment fails, or does not answer in time', async () => {
    for (const lost of [away(), HANGS]) {
      assert.deepEqual(await left([{ stock: 3n }, lost, { stock: 4n }], noMove), {
        ...{ now: NOW, units: 7n, complete: false },
      });
    }
  });

  it('are those of the others while a segment is unreadable, or loaded under another epoch', async () => {
    for (const lost of [
      { stock: 9n, unreadable: ['meta'] },
      { stock: 9n, epoch: 2n },
    ]) {
      assert.deepEqual(await left([lost, { stock: 4n }], noMove), { now: NOW, units: 4n, complete: false });
    }
  });

  it('count a unit on its way until it has arrived, and not while nothing is known of that', async () => {
    const move = { id: 'm', from: 0, to: 1, units: 5n };
    const from = { stock: 1n, moves: [move] };
    assert.equal((await left([from, { stock: 2n }], async () => false)).units, 8n);
    assert.equal((await left([from, { stock: 7n }], async () => true)).units, 8n);
    for (const unknown of [away, () => HANGS]) {
      assert.deepEqual(await left([from, { stock: 2n }], unknown), { now: NOW, units: 3n, complete: false });
    }
  });

  it('are not told while no segment answers', async () => {
    await assert.rejects(left([away(), away()], noMove), isSaleUnavailable);
    await assert.rejects(left([HANGS, HANGS], noMove), isSaleUnavailable);
  });

  it('hide no failure of another kind', async () => {
    await assert.rejects(left([{ stock: 1n }, Promise.reject(new Error('planted'))], noMove), /planted/);
  });
});
