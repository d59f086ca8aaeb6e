/**
 * `make chaos`: rounds of faults under load on real processes; docs/chaos.md. Exit code 1 if a round ends in a
 * contradiction, or does not end.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot } from '../../internal/local/project.js';
import { FAULTS } from './faults.js';
import { faultOf, Round, type RoundResult } from './round.js';
import { Stage } from './stage.js';
import { tableOf, writeTable } from './table.js';

const MAX_FAULT_MS = 6_000;
const SHOWN = 20;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    rounds: { type: 'string' },
    round: { type: 'string', multiple: true },
    fault: { type: 'string', multiple: true },
    list: { type: 'boolean' },
    write: { type: 'boolean' },
  },
});

if (values.list) {
  for (const fault of FAULTS) console.log(fault.name);
} else {
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const rounds = values.round?.map(Number) ?? upTo(Number(values.rounds ?? FAULTS.length + 10));
  process.exitCode = await run(seed, chosen(seed, rounds, values.fault));
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, round) => round);
}

/** Rounds by number, or those whose fault has one of these words in its name. */
function chosen(seed: number, rounds: readonly number[], words: readonly string[] | undefined): readonly number[] {
  if (!words) return rounds;
  return rounds.filter((round) => words.some((word) => faultOf(seed, round).name.includes(word)));
}

async function run(seed: number, rounds: readonly number[]): Promise<number> {
  console.log(`seed ${seed}, ${rounds.length} rounds; again: make chaos C="--seed ${seed}"`);
  const stage = await Stage.open();
  // The servers outlive this process, and so do the file systems that were mounted for them.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void stage.close().finally(() => process.exit(130)));
  }
  const results: RoundResult[] = [];
  let failed = false;
  try {
    for (const number of rounds) {
      const fault = faultOf(seed, number);
      if (fault.isPossible?.(stage) === false) {
        console.log(`${number} ${fault.name}: skipped, because this machine does not permit to mount a file system`);
        continue;
      }
      const round = new Round(stage, fault, seed, number, { maxFaultMs: MAX_FAULT_MS });
      try {
        const result = await round.run();
        results.push(result);
        console.log(lineOf(number, result));
        failed = result.contradictions.length > 0;
        for (const contradiction of result.contradictions.slice(0, SHOWN)) console.log(`     ${contradiction}`);
      } catch (err) {
        failed = true;
        console.log(`${number} ${fault.name}: ${err instanceof Error ? err.message : err}`);
      } finally {
        await round.close();
      }
      // What is broken would break the rounds behind it, too.
      if (failed) {
        console.log(`again: make chaos C="--seed ${seed} --round ${number}"\n${stage.logs(SHOWN)}`);
        break;
      }
    }
  } finally {
    await stage.close();
  }
  const table = tableOf(results);
  console.log(`\n${table}`);
  if (values.write && !failed) writeTable(join(projectRoot, 'docs/chaos.md'), table);
  return failed ? 1 : 0;
}

function lineOf(number: number, r: RoundResult): string {
  const s = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
  const lost = r.lost > 0 ? `, ${r.lost} lost` : '';
  return `${number} ${r.fault}: first success ${s(r.firstSuccessMs)}, rest ${s(r.restMs)}; ${r.queued} of ${r.purchases} admitted${lost}`;
}
