import { errorText } from '../internal/kratos/errors/error-text.js';

/** The measured figures of all rounds. */
export class Figures {
  private readonly values = new Map<string, number[]>();
  private readonly reasons = new Map<string, string>();

  add(id: string, value: number): void {
    const known = this.values.get(id);
    if (known) known.push(value);
    else this.values.set(id, [value]);
  }

  /** Drops the values of a figure, as of a warm-up. */
  forget(id: string): void {
    this.values.delete(id);
  }

  /** Records what went wrong with a figure: why it, or a round of it, is missing. */
  skip(id: string, reason: string): void {
    this.reasons.set(id, reason);
  }

  median(id: string): number | undefined {
    return medianOf(this.values.get(id) ?? []);
  }

  of(id: string): readonly number[] {
    return this.values.get(id) ?? [];
  }

  toJSON(): Record<string, { median: number | undefined; values: readonly number[] }> {
    return Object.fromEntries([...this.values].map(([id, values]) => [id, { median: medianOf(values), values }]));
  }

  get skipped(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.reasons);
  }
}

export function medianOf(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle];
  return sorted.length === 0 ? undefined : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A measurement that runs once per round. */
export interface Measure {
  readonly id: string;
  run(): Promise<number>;
}

/** Runs every measurement once per round, so that a change in the machine's speed affects all of them. */
export async function interleave(
  measures: readonly Measure[],
  rounds: number,
  figures: Figures,
  onLine: (line: string) => void,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    for (const measure of measures) {
      try {
        const value = await measure.run();
        figures.add(measure.id, value);
        onLine(`round ${round}/${rounds}  ${measure.id.padEnd(34)} ${value.toFixed(value < 100 ? 2 : 0)}`);
      } catch (err) {
        figures.skip(measure.id, errorText(err));
        onLine(`round ${round}/${rounds}  ${measure.id.padEnd(34)} failed: ${errorText(err)}`);
      }
    }
  }
}
