/** The invariants of a system at rest, by number. A number is a name: it never changes, and new ones come at the end. */
export const INVARIANTS: ReadonlyMap<number, string> = new Map([
  [1, 'per sale: sold = units of orders that are not CANCELLED, and at most the total'],
  [2, 'per open sale: Redis stock + live units + unprocessed entries + pending returns = total; stock ≥ 0'],
  [3, "per user and sale: live units are within the user's limit, and the buyers hash agrees"],
  [4, 'every stream entry is in the inbox, pending, undelivered or dead; an idle stream is empty'],
  [5, 'every inbox row has exactly one outcome: order, rejected, dead'],
  [6, 'no duplicate order, request number of an item, source of an instance, or instance id'],
  [
    7,
    'every PAID or COMPLETED INSTANCE order has one instance, one instance request and one event; no event without an order or grant',
  ],
  [8, 'every outbox row is published, and every published event is consumed or dead'],
  [9, 'an instance log is SUCCESS exactly where one instance with the same labels exists'],
  [
    10,
    'a COMPLETED order has a SUCCESS log or was shipped, and was paid before; an order whose instance was reported is completed; a paid order has opened its contents, and a cancelled one has none open',
  ],
  [11, 'no PENDING order is past its pay deadline, and no SHIPPED order past its confirm deadline'],
  [12, 'every payment ends in exactly one of a paid order or a refund; the sums agree'],
  [
    13,
    'per sku: 0 ≤ lock_stock ≤ stock; both equal the sums of stock_moves, and lock_stock what sales and unpaid orders hold',
  ],
  [15, 'no refund failed or waits long; a refund and its order move together; no order is refunded more than it cost'],
  [16, 'Redis has the settings of every open sale, and does not admit to a closed one'],
  [
    17,
    'a coupon is held by one unpaid order or used by one paid one, and as many are given out as it counts; the discounts of an order and of its lines add up',
  ],
  [18, 'the statistics of orders are what the orders add up to'],
]);

export interface InvariantViolation {
  /** What the violation is about, such as `order 123`. Two checks of the same violation give the same id. */
  readonly id: string;
  readonly detail: string;
}

export interface CheckResult {
  /** Oldest first, up to the limit of the check. */
  readonly violations: readonly InvariantViolation[];
  /** What could not be checked, with the reason. */
  readonly unchecked?: readonly InvariantViolation[];
}

/** Checks one invariant, or a part of it. Several checks may share a number. A check only reads. */
export abstract class AuditCheck {
  abstract readonly invariant: number;
  /** @throws UNAVAILABLE when a server is unreachable */
  abstract check(limit: number): Promise<CheckResult>;
}

export interface AuditOptions {
  /** Numbers of invariants. undefined: all. */
  readonly only?: readonly number[];
  /**
   * For a running system: a violation counts only if a second check this much later finds it again, so that work in
   * progress is not reported. undefined: the system is at rest, and one check is enough.
   */
  readonly ageMs?: number;
  /** Violations that are listed for each invariant. */
  readonly limit: number;
}

/** A broken invariant. */
export interface Finding {
  readonly invariant: number;
  readonly rule: string;
  readonly count: number;
  /** Whether there are more violations than were counted. */
  readonly more: boolean;
  /** The first ones. */
  readonly violations: readonly InvariantViolation[];
}

export interface AuditReport {
  /** Numbers of the checked invariants. */
  readonly checked: readonly number[];
  readonly findings: readonly Finding[];
  readonly unchecked: readonly (InvariantViolation & { readonly invariant: number })[];
}

/** Violations that one check may return. Beyond that the report only says that there are more. */
const MAX_VIOLATIONS = 10_000;

/** Results of all checks of one invariant, by the id of the violation. */
interface InvariantResult {
  readonly violations: Map<string, InvariantViolation>;
  readonly unchecked: Map<string, InvariantViolation>;
  more: boolean;
}

export class AuditUsecase {
  /** @param wait resolves after the time between the two checks of a running system */
  constructor(
    private readonly checks: readonly AuditCheck[],
    private readonly wait: (ms: number) => Promise<void>,
  ) {}

  /** @throws UNAVAILABLE when a server is unreachable */
  async run(options: AuditOptions): Promise<AuditReport> {
    const numbers = options.only ?? [...INVARIANTS.keys()];
    let results = await this.check(numbers);
    if (options.ageMs !== undefined) {
      const suspected = [...results].filter(([, r]) => r.violations.size + r.unchecked.size > 0).map(([n]) => n);
      if (suspected.length > 0) {
        await this.wait(options.ageMs);
        const second = await this.check(suspected);
        results = new Map([...second].map(([n, result]) => [n, inBoth(results.get(n)!, result)]));
      }
    }
    const findings = [...results].flatMap(([invariant, { violations, more }]): Finding[] => {
      if (violations.size === 0) return [];
      const first = [...violations.values()].slice(0, options.limit);
      return [{ invariant, rule: INVARIANTS.get(invariant) ?? '', count: violations.size, more, violations: first }];
    });
    const unchecked = [...results].flatMap(([invariant, r]) =>
      [...r.unchecked.values()].map((u) => ({ invariant, ...u })),
    );
    return { checked: numbers, findings, unchecked };
  }

  private async check(numbers: readonly number[]): Promise<Map<number, InvariantResult>> {
    const results = new Map<number, InvariantResult>();
    for (const number of numbers) {
      const result: InvariantResult = { violations: new Map(), unchecked: new Map(), more: false };
      for (const check of this.checks.filter((c) => c.invariant === number)) {
        const { violations, unchecked = [] } = await check.check(MAX_VIOLATIONS);
        for (const v of violations) result.violations.set(v.id, v);
        for (const v of unchecked) result.unchecked.set(v.id, v);
        result.more ||= violations.length >= MAX_VIOLATIONS;
      }
      results.set(number, result);
    }
    return results;
  }
}

/** A violation that the second check could not judge is dropped, because what it is about has changed in between. */
function inBoth(first: InvariantResult, second: InvariantResult): InvariantResult {
  const violations = new Map([...second.violations].filter(([id]) => first.violations.has(id)));
  return { violations, unchecked: second.unchecked, more: first.more && second.more };
}
