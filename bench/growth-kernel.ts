/** Events in virtual time, and the servers that they meet: the kernel of the simulation in growth.ts. */
import { setImmediate as turn } from 'node:timers/promises';

interface Event {
  readonly atMs: number;
  readonly sequence: number;
  readonly run: () => void;
}

/**
 * A clock that jumps from one event to the next. Events of the same time run in the order in which they were added, so a
 * run depends on nothing but its seed.
 */
export class Simulation {
  nowMs = 0;
  private readonly heap: Event[] = [];
  private sequence = 0;
  private touched = false;

  constructor(private seed: number) {}

  /** @param run does nothing asynchronous, unless it calls {@link touch} */
  after(ms: number, run: () => void): void {
    const { heap } = this;
    heap.push({ atMs: this.nowMs + ms, sequence: this.sequence++, run });
    for (let i = heap.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!isEarlier(heap[i]!, heap[parent]!)) break;
      [heap[i], heap[parent]] = [heap[parent]!, heap[i]!];
      i = parent;
    }
  }

  /** Tells that promises or `setImmediate` of real code follow from this event. They run before the clock goes on. */
  touch(): void {
    this.touched = true;
  }

  /** Resolves after a virtual time. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, () => {
        this.touch();
        resolve();
      });
    });
  }

  /** Runs the events up to a time, or until there is none or `isDone`. */
  async run(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    await this.settle();
    while (this.heap.length > 0 && this.heap[0]!.atMs <= untilMs && !isDone()) {
      const { atMs, run } = this.pop();
      this.nowMs = atMs;
      run();
      if (this.touched) await this.settle();
    }
  }

  /** From 0 up to 1. */
  random(): number {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A time between two events that know nothing of each other. */
  exponential(meanMs: number): number {
    return -meanMs * Math.log(1 - this.random());
  }

  /** A time whose logarithm has a normal distribution, as that of a disk. */
  logNormal({ p50, p99 }: Percentiles): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.random())) * Math.cos(2 * Math.PI * this.random());
    return p50 * (p99 / p50) ** (normal / Z_99);
  }

  /** The first turn runs promises, the second what they left to `setImmediate`. */
  private async settle(): Promise<void> {
    this.touched = false;
    await turn();
    await turn();
  }

  private pop(): Event {
    const { heap } = this;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let i = 0; ; ) {
      let next = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < heap.length && isEarlier(heap[child]!, heap[next]!)) next = child;
      }
      if (next === i) return first;
      [heap[i], heap[next]] = [heap[next]!, heap[i]!];
      i = next;
    }
  }
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

/** The standard normal variable that 99 % do not exceed. */
const Z_99 = 2.3263;

function isEarlier(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
}

/** What a process may run for before another one has its turn on the core. */
const SLICE_MS = 1;

/** The cores of a machine: processes take turns on them. */
export class Cores {
  busyMs = 0;
  private free: number;
  private readonly waiting: { leftMs: number; readonly done: () => void }[] = [];

  constructor(
    private readonly simulation: Simulation,
    readonly count: number,
  ) {
    this.free = count;
  }

  run(ms: number, done: () => void): void {
    this.waiting.push({ leftMs: ms, done });
    this.next();
  }

  private next(): void {
    while (this.free > 0 && this.waiting.length > 0) {
      const work = this.waiting.shift()!;
      const slice = Math.min(SLICE_MS, work.leftMs);
      this.free -= 1;
      this.busyMs += slice;
      this.simulation.after(slice, () => {
        this.free += 1;
        work.leftMs -= slice;
        if (work.leftMs > 0) this.waiting.push(work);
        else work.done();
        this.next();
      });
    }
  }
}

interface Job {
  readonly costMs: number;
  readonly source: object | undefined;
  readonly done: () => void;
}

/**
 * A process with an event loop: in each turn it takes all that waits, works on it, and lets the results out together at the
 * end, after `endMs` in which it does not use its core.
 */
export class EventLoop {
  cpuMs = 0;
  private endedMs = 0;
  private startedAt: number | undefined;
  private waiting: Job[] = [];

  constructor(
    private readonly simulation: Simulation,
    private readonly cores: Cores,
    /** Spent once in a turn for each source of jobs, as for the reads and writes of a connection. */
    private readonly sourceMs: number = 0,
    private readonly endMs: () => number = () => 0,
  ) {}

  /** In which it worked, waited for a core, or waited for the end of a turn. */
  get busyMs(): number {
    return this.endedMs + (this.startedAt === undefined ? 0 : this.simulation.nowMs - this.startedAt);
  }

  add(costMs: number, done: () => void, source?: object): void {
    this.waiting.push({ costMs, done, source });
    if (this.startedAt === undefined) this.turn();
  }

  private turn(): void {
    const startedAt = this.simulation.nowMs;
    this.startedAt = startedAt;
    const jobs = this.waiting;
    this.waiting = [];
    const sources = new Set(jobs.flatMap(({ source }) => source ?? []));
    const cpuMs = jobs.reduce((sum, { costMs }) => sum + costMs, sources.size * this.sourceMs);
    this.cpuMs += cpuMs;
    this.cores.run(cpuMs, () => {
      this.simulation.after(this.endMs(), () => {
        for (const { done } of jobs) done();
        this.endedMs += this.simulation.nowMs - startedAt;
        this.startedAt = undefined;
        if (this.waiting.length > 0) this.turn();
      });
    });
  }
}

/** The value that this share of the sorted values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}
