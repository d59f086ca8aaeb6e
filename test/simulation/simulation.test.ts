import assert from 'node:assert/strict';
import { PLANTED_BUGS } from './planted-bugs.js';
import { simulate } from './run.js';

// KAIMAI_SIM_SEED replays one run and shows its last operations; KAIMAI_SIM_SEEDS is the number of runs.
const { KAIMAI_SIM_SEED, KAIMAI_SIM_SEEDS } = process.env;
const SEEDS = Number(KAIMAI_SIM_SEEDS ?? 150);
/** A planted bug must be found within this many runs. */
const BUG_SEEDS = 200;
const MS_PER_SEED = 2_000;

async function failureOf(seed: number, showTrace: boolean): Promise<string | undefined> {
  const { violations, trace } = await simulate(seed);
  if (violations.length === 0) return undefined;
  const replay = `KAIMAI_SIM_SEED=${seed} npx mocha dist/test/simulation/simulation.test.js`;
  return [`seed ${seed}: ${violations.join('\n  ')}`, ...(showTrace ? trace : [`replay: ${replay}`])].join('\n  ');
}

describe('the simulation of the product domain', () => {
  const seeds =
    KAIMAI_SIM_SEED === undefined ? Array.from({ length: SEEDS }, (_, i) => i + 1) : [Number(KAIMAI_SIM_SEED)];

  it(`keeps every invariant in ${seeds.length} runs with random faults`, async function () {
    this.timeout(10_000 + seeds.length * MS_PER_SEED);
    for (const seed of seeds) {
      const failure = await failureOf(seed, KAIMAI_SIM_SEED !== undefined);
      if (failure !== undefined) assert.fail(failure);
    }
  });

  it('does the same operations in every run of the same seed', async () => {
    const [a, b] = [await simulate(7), await simulate(7)];
    assert.deepEqual(a.trace, b.trace);
    assert.ok(a.trace.length > 0);
  });

  describe('finds a planted bug, where', () => {
    for (const [name, bugs] of Object.entries(PLANTED_BUGS)) {
      it(name, async function () {
        this.timeout(BUG_SEEDS * MS_PER_SEED);
        for (let seed = 1; seed <= BUG_SEEDS; seed++) {
          if ((await simulate(seed, bugs)).violations.length > 0) return;
        }
        assert.fail(`not found in ${BUG_SEEDS} runs`);
      });
    }
  });
});
