/** What must hold of a system at rest. The numbers are names: they stay, and new ones are added at the end. */
export const INVARIANTS: ReadonlyMap<number, string> = new Map([
  [1, 'per sale, sold is the units of orders that are not cancelled, and at most the total'],
  [2, 'per running sale, units in Redis, live, waiting and on their way back make the total'],
  [3, "per user and sale, live units are within the user's limit, and the buyers in Redis agree"],
  [4, 'every stream entry has its outcome or waits for it, and an idle stream is empty'],
  [5, 'every inbox row has exactly one outcome: order, rejected, dead'],
  [6, 'no request number, source of an instance or instance twice'],
  [
    7,
    'every paid instance order has one instance, one request and one event, and no event is without its order or grant',
  ],
  [8, 'what is in the outbox was published, and what was published was taken'],
  [9, 'an instance runs exactly where its log says SUCCESS, with the same labels'],
  [10, 'a completed order has its instance, and was paid before'],
  [11, 'no order waits for payment past its deadline'],
  [12, 'every payment ends in one paid order or one refund, and the sums agree'],
  [
    13,
    'per sku, stock and lock_stock are what the ledger adds up to, and what is locked is held by a sale or an unpaid order',
  ],
]);

/** Something that breaks an invariant. */
export interface Offence {
  /** What to look it up by, as `order 123`; the same in every look at the same thing. */
  readonly id: string;
  readonly detail: string;
}

export interface Look {
  /** Oldest first, at most as many as were asked for. */
  readonly offences: readonly Offence[];
  /** What could not be judged, with the reason. */
  readonly unchecked?: readonly Offence[];
}

/** One query for one invariant. Several may share a number. Reads only. */
export abstract class AuditCheck {
  abstract readonly invariant: number;
  /** @throws UNAVAILABLE when a server is away */
  abstract look(limit: number): Promise<Look>;
}

export interface AuditOptions {
  /** undefined: all. */
  readonly only?: readonly number[];
  /**
   * For a system at work: what breaks an invariant counts only if it still does this much later, so that work younger
   * than this is left alone. undefined: the system is at rest, and one look is enough.
   */
  readonly ageMs?: number;
  /** Offences of an invariant that are reported one by one. */
  readonly limit: number;
}

export interface Finding {
  readonly invariant: number;
  readonly rule: string;
  readonly count: number;
  /** Whether there are more than were counted. */
  readonly more: boolean;
  /** The first of them. */
  readonly offences: readonly Offence[];
}

export interface AuditReport {
  readonly checked: readonly number[];
  readonly findings: readonly Finding[];
  readonly unchecked: readonly (Offence & { readonly invariant: number })[];
}

/** Offences of one check that are told apart; what is beyond them is only known to be there. */
const MAX_OFFENCES = 10_000;

interface Seen {
  readonly offences: Map<string, Offence>;
  readonly unchecked: Map<string, Offence>;
  more: boolean;
}

export class AuditUsecase {
  /** @param wait passes the time between two looks */
  constructor(
    private readonly checks: readonly AuditCheck[],
    private readonly wait: (ms: number) => Promise<void>,
  ) {}

  /** @throws UNAVAILABLE when a server is away */
  async run(options: AuditOptions): Promise<AuditReport> {
    const numbers = options.only ?? [...INVARIANTS.keys()];
    let seen = await this.look(numbers);
    if (options.ageMs !== undefined) {
      const suspected = [...seen].filter(([, s]) => s.offences.size + s.unchecked.size > 0).map(([n]) => n);
      if (suspected.length > 0) {
        await this.wait(options.ageMs);
        const again = await this.look(suspected);
        seen = new Map([...again].map(([n, now]) => [n, stillThere(seen.get(n)!, now)]));
      }
    }
    const findings = [...seen].flatMap(([invariant, { offences, more }]): Finding[] => {
      if (offences.size === 0) return [];
      const first = [...offences.values()].slice(0, options.limit);
      return [{ invariant, rule: INVARIANTS.get(invariant) ?? '', count: offences.size, more, offences: first }];
    });
    const unchecked = [...seen].flatMap(([invariant, s]) =>
      [...s.unchecked.values()].map((u) => ({ invariant, ...u })),
    );
    return { checked: numbers, findings, unchecked };
  }

  private async look(numbers: readonly number[]): Promise<Map<number, Seen>> {
    const seen = new Map<number, Seen>();
    for (const number of numbers) {
      const all: Seen = { offences: new Map(), unchecked: new Map(), more: false };
      for (const check of this.checks.filter((c) => c.invariant === number)) {
        const { offences, unchecked = [] } = await check.look(MAX_OFFENCES);
        for (const o of offences) all.offences.set(o.id, o);
        for (const o of unchecked) all.unchecked.set(o.id, o);
        all.more ||= offences.length >= MAX_OFFENCES;
      }
      seen.set(number, all);
    }
    return seen;
  }
}

/** An offence that could not be judged the second time is one no more: it moved. */
function stillThere(before: Seen, now: Seen): Seen {
  const both = (a: Map<string, Offence>, b: Map<string, Offence>) => new Map([...b].filter(([id]) => a.has(id)));
  return { offences: both(before.offences, now.offences), unchecked: now.unchecked, more: before.more && now.more };
}
